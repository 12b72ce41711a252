"""Theme and style: the console's colours and shapes, from fonts that are on the machine."""

from __future__ import annotations

import gradio as gr

SANS = (
    "ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif",
)  # fmt: skip
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Noto Sans Mono", "monospace")

_GREEN = gr.themes.Color(
    name="param", c50="#e9f4f1", c100="#cbe2dc", c200="#afd3ca", c300="#90c3b7", c400="#51a090",
    c500="#2a9d86", c600="#0f6b5c", c700="#0d5c4f", c800="#0a4f44", c900="#083f37", c950="#062c27",
)  # fmt: skip
_STONE = gr.themes.Color(
    name="param-stone", c50="#fcfcfb", c100="#f2f3f0", c200="#dde1dc", c300="#c3c9c4",
    c400="#98a29e", c500="#6a736f", c600="#4a5351", c700="#2e3738", c800="#1d2425", c900="#14191a",
    c950="#101516",
)  # fmt: skip


def theme() -> gr.themes.Base:
    """The console's theme, light and dark; the same values as `.streamlit/config.toml`."""
    base = gr.themes.Base(
        primary_hue=_GREEN, secondary_hue=_GREEN, neutral_hue=_STONE, font=SANS, font_mono=MONO,
        radius_size=gr.themes.sizes.radius_md,
    )  # fmt: skip
    return base.set(
        body_background_fill="#fcfcfb",
        body_background_fill_dark="#14191a",
        body_text_color="#1d2623",
        body_text_color_dark="#e4e9e6",
        body_text_color_subdued="#6a736f",
        body_text_color_subdued_dark="#98a29e",
        background_fill_primary="#fcfcfb",
        background_fill_primary_dark="#14191a",
        background_fill_secondary="#f2f3f0",
        background_fill_secondary_dark="#1d2425",
        block_background_fill="#fcfcfb",
        block_background_fill_dark="#171d1e",
        block_border_color="#dde1dc",
        block_border_color_dark="#2e3738",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="#6a736f",
        block_label_text_color_dark="#98a29e",
        block_shadow="none",
        block_shadow_dark="none",
        border_color_primary="#dde1dc",
        border_color_primary_dark="#2e3738",
        input_border_color="#c9cfc9",
        input_border_color_dark="#3a4546",
        input_border_width="1px",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1d2425",
        button_primary_background_fill="#0f6b5c",
        button_primary_background_fill_dark="#2a9d86",
        button_primary_background_fill_hover="#0d5c4f",
        button_primary_background_fill_hover_dark="#33ad95",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#0b1413",
        button_secondary_background_fill="#f2f3f0",
        button_secondary_background_fill_dark="#1d2425",
        button_secondary_background_fill_hover="#e6e9e4",
        button_secondary_background_fill_hover_dark="#263031",
        button_secondary_border_color="#dde1dc",
        button_secondary_border_color_dark="#2e3738",
        link_text_color="#0f6b5c",
        link_text_color_dark="#6fd0bb",
    )


CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
footer { display: none !important; }

.pg-head { display: flex; gap: .75rem; align-items: center; padding: .25rem 0; }
.pg-head svg { flex: none; }
.pg-head h1 { font-size: 1.3rem; font-weight: 650; margin: 0; line-height: 1.25; }
.pg-head p { margin: .1rem 0 0; color: var(--body-text-color-subdued); font-size: .92rem; }
#pg-top { flex-wrap: nowrap; align-items: center; justify-content: space-between; gap: .75rem; }
#pg-language { flex: none; min-width: 0 !important; width: auto; border: 0; background: none; }
#pg-language .wrap { flex-wrap: nowrap; gap: .25rem; }
#pg-language label { padding: .2rem .55rem; background: none; border: 1px solid transparent;
  font-size: .85rem; }
#pg-language label.selected { border-color: var(--border-color-primary); font-weight: 600; }
#pg-language label:focus-within { outline: 2px solid var(--color-accent); }
#pg-language input { position: absolute; opacity: 0; width: 1px; height: 1px; }
#pg-language span { margin: 0; }

#pg-door { max-width: 30rem; margin: 7vh auto 0; padding: 1.4rem; gap: .9rem;
  border: 1px solid var(--border-color-primary); border-radius: .75rem;
  background: var(--block-background-fill); }

.pg-account { font-size: .95rem; line-height: 2.2rem; overflow-wrap: anywhere; }
.pg-account span { color: var(--body-text-color-subdued); }
#pg-bar { align-items: center; gap: .5rem; flex-wrap: wrap; padding-bottom: .5rem;
  border-bottom: 1px solid var(--border-color-primary); }
#pg-bar > :first-child { flex: 1 1 12rem; min-width: 12rem; }
#pg-bar button { flex: none; }

.form { background: none !important; border: 0 !important; box-shadow: none !important; }
.pg-field { border: 0 !important; padding: 0 !important; background: none !important; }
#pg-actions button { flex: none; min-width: 7.5rem; }
#pg-actions { justify-content: flex-end; }
#pg-chat .message { color: var(--body-text-color); }
#pg-chat .icon-button-wrapper { display: none; }

.pg-raw, .pg-md { overflow-wrap: anywhere; line-height: 1.55;
  color: var(--body-text-color) !important; }
.pg-raw { white-space: pre-wrap; }
.pg-md > * { margin: .45rem 0 !important; }
.pg-md > :first-child { margin-top: 0 !important; }
.pg-md > :last-child { margin-bottom: 0 !important; }
.pg-md pre { white-space: pre-wrap; padding: .55rem .7rem; border-radius: .4rem;
  background: color-mix(in srgb, currentColor 8%, transparent); }
.pg-md code { font-size: .88em; }
.pg-md table { border-collapse: collapse; }
.pg-md td, .pg-md th { border: 1px solid var(--border-color-primary); padding: .2rem .5rem; }

.pg-facts h2 { font-size: .95rem; font-weight: 600; margin: 0 0 .55rem; }
.pg-facts p { margin: 0; color: var(--body-text-color-subdued); font-size: .9rem; }
.pg-facts dl { display: grid; grid-template-columns: auto 1fr; gap: .4rem .9rem; margin: 0;
  font-size: .9rem; align-items: baseline; }
.pg-facts dt { color: var(--body-text-color-subdued); }
.pg-facts dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.pg-facts code { font-size: .82rem; background: none; padding: 0; border: 0; color: inherit; }
.pg-facts .pg-note { margin-top: .6rem; font-style: italic; }
.pg-arm { padding: .05rem .5rem; border-radius: 1rem; font-size: .82rem;
  border: 1px solid var(--border-color-primary); }
.pg-arm.pg-canary { border-color: #b9641f; color: #b9641f; }
.dark .pg-arm.pg-canary { border-color: #e2a064; color: #e2a064; }

.pg-links { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .9rem; }
.pg-links a { color: var(--link-text-color); text-decoration: none; }
.pg-links a:hover, .pg-links a:focus-visible { text-decoration: underline; }

.pg-checks h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .5rem; }
.pg-checks > ul { list-style: none; margin: 0; padding: 0; }
.pg-checks > ul > li { padding: .35rem 0; border-top: 1px solid var(--border-color-primary);
  font-size: .88rem; overflow-wrap: anywhere; }
.pg-checks small { display: block; color: var(--body-text-color-subdued); }
.pg-checks details { margin-top: .5rem; font-size: .85rem; color: var(--body-text-color-subdued); }
.pg-ok { color: #2f8a5b; } .dark .pg-ok { color: #63c091; }
.pg-bad { color: #b3403f; } .dark .pg-bad { color: #e58683; }

.pg-problem { margin: 0; padding: .55rem .8rem; border-radius: .5rem; font-size: .92rem;
  border: 1px solid color-mix(in srgb, #b3403f 45%, transparent);
  background: color-mix(in srgb, #b3403f 10%, transparent); }

@media (max-width: 700px) {
  .pg-head p, .pg-head svg { display: none; }
  .pg-head h1 { font-size: 1.1rem; }
  #pg-door { margin-top: 2vh; padding: 1rem; }
}
"""
