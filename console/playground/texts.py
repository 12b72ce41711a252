"""What the playground says, in English and Turkish; a test sees that both say the same things."""

from __future__ import annotations

from collections.abc import Mapping

from services.errors import (
    ConsoleError,
    LimitExceeded,
    NotFound,
    NotPermitted,
    NotSignedIn,
    TooLarge,
    Unavailable,
)

LANGUAGES = ("en", "tr")

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "title": "Playground",
        "lead": "Chat with your organisation's own model, and check what it answers.",
        "language": "Language",
        "key": "API key",
        "key_info": "Stays in the memory of this server until you sign out or close the page.",
        "sign_in": "Sign in",
        "sign_out": "Sign out",
        "signed_in_as": "Signed in for",
        "model_choice": "Ask for",
        "chat": "Conversation",
        "placeholder": "Ask something. What the model says is text, never a command.",
        "message": "Your message",
        "message_hint": "Enter sends, Shift+Enter starts a new line.",
        "send": "Send",
        "stop": "Stop",
        "good": "👍 Good answer",
        "bad": "👎 Bad answer",
        "new": "New conversation",
        "settings": "Settings",
        "system": "System prompt",
        "system_hint": "Optional: how the model should behave.",
        "temperature": "Temperature",
        "max_tokens": "Longest answer (tokens)",
        "facts": "About this answer",
        "no_facts": "After the first answer this shows which weights gave it, and what it cost.",
        "served": "Model",
        "arm": "Arm",
        "arm_stable": "stable",
        "arm_canary": "canary",
        "arm_pinned": "pinned",
        "arm_fallback": "second engine",
        "tokens": "Tokens",
        "tokens_value": "{prompt} in, {completion} out",
        "cost": "Cost",
        "latency": "Latency",
        "latency_value": "{first} s to the first word, {total} s in all",
        "total_value": "{total} s",
        "receipt": "Receipt",
        "unknown": "not known",
        "stopped": "You stopped this answer.",
        "cut": "The answer reached its longest length.",
        "verify": "Verify this answer",
        "verify_link": "Open in the console",
        "download": "Download the receipt",
        "holds": "The receipt holds.",
        "broken": "The receipt does not hold.",
        "open_questions": "Not established",
        "pass": "holds",
        "fail": "fails",
        "wrong_key": "This key is not valid, or no longer. Ask your administrator for another one.",
        "empty_key": "Enter the API key of your organisation.",
        "empty_message": "Write a message first.",
        "no_answer": "There is no answer to verify yet.",
        "no_receipt": "This answer has no receipt, because it did not reach its end.",
        "wait": "Your organisation's limit is reached: try again in {seconds} s.",
        "away": "The model cannot be reached at the moment; try again in a little while.",
        "forbidden": "This key does not allow that.",
        "missing": "What was asked for is not there.",
        "too_large": "The conversation has become too long; start a new one.",
        "refused": "The gateway refused this: {message}",
    },
    "tr": {
        "title": "Deneme alanı",
        "lead": "Kurumunuzun kendi modeliyle konuşun ve verdiği yanıtı doğrulayın.",
        "language": "Dil",
        "key": "API anahtarı",
        "key_info": "Çıkış yapana ya da sayfayı kapatana dek yalnız bu sunucunun belleğinde durur.",
        "sign_in": "Giriş yap",
        "sign_out": "Çıkış yap",
        "signed_in_as": "Kurum:",
        "model_choice": "İstenen model",
        "chat": "Konuşma",
        "placeholder": "Bir şey sorun. Modelin söylediği yalnızca metindir, komut değildir.",
        "message": "Mesajınız",
        "message_hint": "Enter gönderir, Shift+Enter yeni satır açar.",
        "send": "Gönder",
        "stop": "Durdur",
        "good": "👍 İyi yanıt",
        "bad": "👎 Kötü yanıt",
        "new": "Yeni konuşma",
        "settings": "Ayarlar",
        "system": "Sistem istemi",
        "system_hint": "İsteğe bağlı: model nasıl davransın?",
        "temperature": "Sıcaklık",
        "max_tokens": "En uzun yanıt (belirteç)",
        "facts": "Bu yanıt hakkında",
        "no_facts": "İlk yanıttan sonra, onu hangi ağırlıkların verdiği ve maliyeti burada görünür.",
        "served": "Model",
        "arm": "Kol",
        "arm_stable": "kararlı",
        "arm_canary": "kanarya",
        "arm_pinned": "sabitlenmiş",
        "arm_fallback": "ikinci motor",
        "tokens": "Belirteç",
        "tokens_value": "{prompt} giren, {completion} çıkan",
        "cost": "Maliyet",
        "latency": "Süre",
        "latency_value": "ilk sözcük {first} sn, tümü {total} sn",
        "total_value": "{total} sn",
        "receipt": "Makbuz",
        "unknown": "bilinmiyor",
        "stopped": "Bu yanıtı siz durdurdunuz.",
        "cut": "Yanıt en uzun sınırına ulaştı.",
        "verify": "Bu yanıtı doğrula",
        "verify_link": "Konsolda aç",
        "download": "Makbuzu indir",
        "holds": "Makbuz geçerli.",
        "broken": "Makbuz geçerli değil.",
        "open_questions": "Kanıtlanmayan",
        "pass": "geçerli",
        "fail": "geçersiz",
        "wrong_key": "Bu anahtar geçerli değil ya da iptal edilmiş. Yöneticinizden yenisini isteyin.",
        "empty_key": "Kurumunuzun API anahtarını girin.",
        "empty_message": "Önce bir mesaj yazın.",
        "no_answer": "Henüz doğrulanacak bir yanıt yok.",
        "no_receipt": "Bu yanıt sonuna ulaşmadığı için makbuzu yok.",
        "wait": "Kurumunuzun sınırına ulaşıldı: {seconds} sn sonra yeniden deneyin.",
        "away": "Modele şu anda ulaşılamıyor; biraz sonra yeniden deneyin.",
        "forbidden": "Bu anahtar buna izin vermiyor.",
        "missing": "İstenen şey bulunamadı.",
        "too_large": "Konuşma çok uzadı; yeni bir konuşma başlatın.",
        "refused": "Ağ geçidi bunu kabul etmedi: {message}",
    },
}


def preferred(accept_language: str) -> str:
    """The language of a browser that sends this `Accept-Language`; English where it has neither."""
    for part in accept_language.lower().split(","):
        tag = part.partition(";")[0].strip().partition("-")[0]
        if tag in LANGUAGES:
            return tag
    return "en"


def sentence(error: ConsoleError, language: str) -> str:
    """What a person is told about an error: one sentence, without the machinery behind it."""
    texts = TEXTS[language]
    if isinstance(error, LimitExceeded):
        return texts["wait"].format(seconds=f"{error.retry_after_s:.0f}")
    kinds: tuple[tuple[type[ConsoleError], str], ...] = (
        (NotSignedIn, "wrong_key"),
        (NotPermitted, "forbidden"),
        (NotFound, "missing"),
        (TooLarge, "too_large"),
        (Unavailable, "away"),
    )
    name = next((name for kind, name in kinds if isinstance(error, kind)), "refused")
    return texts[name].format(message=error.message)
