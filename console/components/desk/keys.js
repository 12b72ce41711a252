// Which key was meant for the desk: none while somebody types, composes, holds a key down, uses a
// modifier, or has one of the frame's own dialogs or menus open.

const TYPING = [
  "input:not([type=radio]):not([type=checkbox]):not([type=button]):not([type=submit])",
  "textarea", "select", "[contenteditable]:not([contenteditable=false])", "[role=textbox]",
  "[role=combobox]", "[role=listbox]", "[role=menu]", "[role=spinbutton]", "[role=slider]",
].join(",");
const OPEN = "dialog[open], [role=dialog], [data-testid=stPopoverBody]";

function isTyping(event) {
  const target = event.composedPath()[0];
  return target instanceof Element && target.closest(TYPING) !== null;
}

// The key in lower case, digits also from rows that need Shift for them; null if it was not meant.
function meantKey(event) {
  if (event.defaultPrevented || event.isComposing || event.keyCode === 229 || event.repeat) return null;
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (isTyping(event) || document.querySelector(OPEN)) return null;
  const row = /^Digit(\d)$/.exec(event.code ?? "");
  if (row && !event.shiftKey) return row[1];
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}
