"""Checks that know a thing by how it is said: attempts to break out, injected orders, insults.

Patterns are read over folded text (see `text.folded`): lower case, Turkish letters as their Latin
neighbours, one space between words. A pattern says how a sentence is built, not only a word that
it has in it, since an ordinary text may well have the word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import re2

from services.guardrails.checks.check import Form
from services.guardrails.models import Span

REACH = 240
"""Longest phrase, characters; gaps in patterns are bounded so that none is longer."""


class Phrases:
    """Finds phrases, by kind.

    Args:
        name: Of the check.
        kinds: RE2 patterns over folded text, by the name of what they mean.
    """

    form: Form = "folded"
    reach = REACH

    def __init__(self, name: str, kinds: Mapping[str, Sequence[str]]) -> None:
        self.name = name
        self._kinds = [
            (kind, re2.compile("|".join(f"(?:{one})" for one in patterns)))
            for kind, patterns in kinds.items()
        ]
        self.patterns = tuple(pattern for patterns in kinds.values() for pattern in patterns)

    def find(self, text: str) -> Iterator[Span]:
        """See `Check.find`; the places are those of the folded text, and kinds may overlap."""
        spans = [
            Span(kind, *found.span())
            for kind, pattern in self._kinds
            for found in pattern.finditer(text)
        ]
        return iter(sorted(spans, key=lambda span: span.start))


def words(*listed: str) -> str:
    """A pattern that finds any of some folded words, as whole words."""
    return rf"\b(?:{'|'.join(listed)})\b"


_RULES = (
    r"(?:instructions?|rules?|prompts?|directives?|guidelines?|guardrails?|restrictions?|policies|policy|"
    r"training|programming|constraints?|orders|commands?|safety (?:rules?|filters?|settings?))"
)
_KURAL = (
    r"(?:talimat|yonerge|kural|komut|kisitlama|sinirlama|direktif|sistem mesaj|sistem istem|prompt|filtre|"
    r"guvenlik ayar)[a-z]{0,12}"
)
_YOUR = r"(?:your|the|all|any|my|these|those|previous|prior|above|earlier|initial|original|system|safety|of|and|given|openai's|anthropic's|ethical|content|built in|built-in|every|each)"
# An order, not a tale: "unut", "unutun", "unutmalisin", but neither "unutmayin" nor "unutuyor".
_UNUT = (
    r"(?:unut|yok say|yoksay|gormezden gel|dikkate alma|goz ?ardi et|es gec|gec|bos ?ver|iptal et|devre disi birak|"
    r"bir kenara birak|uyma|umursama|onemseme|cigne|ihlal et|sil|takma)"
    r"(?:[iu]n|[iu]n[iu]z|y[iu]n|y[iu]n[iu]z|m[ae]lisin|m[ae]lisiniz|m[ae]n gerek[a-z]{0,6})?\b"
)

_LIMITS = (
    r"(?:any |all )?(?:usual )?(?:restrictions|filters|limitations|censorship|guardrails|safeguards|morals|ethics|rules)"
    r"(?: whatsoever| at all| of any kind)?(?: and\b|[.,;:!?\"]| ?$)"
)

JAILBREAK: Mapping[str, Sequence[str]] = {
    "ignore_rules": (
        rf"\b(?:ignore|disregard|forget|override|bypass|skip|drop|discard|abandon|neglect) (?:{_YOUR} ){{1,6}}{_RULES}",
        r"\b(?:ignore|disregard|forget) (?:about )?(?:everything|anything|all|what(?:ever)?)(?: that)? (?:you (?:were|have been|are|'ve been) (?:told|taught|instructed|given)|(?:was |were )?(?:said |written )?(?:above|before this|up to now))",
        rf"\b(?:do not|don't|stop|no longer|never) (?:follow|obey|respect|adhere to|comply with|apply)(?:ing)? (?:{_YOUR} ){{1,5}}{_RULES}",
        r"\b(?:ignore|disregard|forget) (?:all |any )?(?:of )?(?:your|these|those|the previous|the above|all)(?: previous| prior| earlier)? directions\b",
        rf"\b(?:onceki|yukaridaki|tum|butun|sana verilen|verilen|mevcut|eski|simdiye kadarki|sistem)(?: [a-z]{{2,20}}){{0,4}} {_KURAL}(?: [a-z]{{2,20}}){{0,3}} {_UNUT}",
        rf"\b(?:onceki|yukaridaki|simdiye kadar(?:ki)?|buraya kadar(?:ki)?)(?: [a-z]{{2,20}}){{0,3}} (?:her ?sey|konusma|yazilan|soylenen|anlatilan)[a-z]{{0,10}}(?: [a-z]{{2,20}}){{0,3}} {_UNUT}",
        rf"\b(?:kural|talimat|yonerge|kisitlama|sinirlama|filtre)[a-z]{{0,12}} {_UNUT}(?: ve| sonra| artik|[.,!;]|$)",
        rf"\bguvenlik (?:filtre|ayar|kural|onlem)[a-z]{{0,12}}(?: [a-z]{{2,20}}){{0,2}} {_UNUT}",
    ),
    "no_limits": (
        r"\b(?:you are|you're|act as|pretend (?:to be|you are|you're|that you are)|roleplay as|role-play as|become|behave as|respond as|answer as|simulate|imagine you are) (?:now )?(?:an? |the )?(?:[a-z-]{2,20} ){0,4}(?:dan\b|do anything now|jailbroken|unrestricted|unfiltered|uncensored|amoral|lawless|evil (?:ai|assistant|bot|twin|chatbot|version)|rogue (?:ai|assistant|model))",
        rf"\b(?:an? ai|ai|assistant|model|bot|chatbot|answer|respond|reply|speak|talk|write|operate|behave|act|you) (?:[a-z]{{2,12}} ){{0,4}}(?:without|with no|free (?:of|from)|has no|have no|having no|no longer (?:have|has)) {_LIMITS}",
        r"\b(?:without|with no|free (?:of|from)|has no|have no|having no|no longer have) (?:any |all )?(?:ethical|moral|content|safety) (?:restrictions|rules|filters?|limits|limitations|guardrails|safeguards|boundaries|codes?|guidelines)\b",
        r"\b(?:do anything now|jailbreak mode|god mode enabled|enable (?:developer|dev|god|debug|admin|sudo|unrestricted) mode|developer mode (?:is )?(?:now )?(?:enabled|activated|on)\b|dan mode|opposite mode|evil mode|stan mode)",
        r"\b(?:sansursuz|filtresiz|sinirsiz|kisitlamasiz|kuralsiz|ahlaksiz|etik disi|kisitlanmamis|sinirlandirilmamis)(?: [a-z]{2,20}){0,3} (?:bir )?(?:yapay zeka|asistan|model|bot|karakter|mod|sohbet robotu)[a-z]{0,10}",
        r"\b(?:hicbir|herhangi bir) (?:etik |ahlaki |guvenlik )?(?:kural|kisitlama|sinir|filtre|sinirlama|sansur)[a-z]{0,8}(?: (?:olmayan|olmadan|tanimayan|tanima|olmaksizin|yokmus gibi|yok)| bagli (?:olmayan|degilsin|kalmadan))",
        r"\b(?:gelistirici|yonetici|tanri|hata ayiklama|admin|debug) mod(?:u|una|unu)(?: [a-z]{2,12}){0,2} (?:gec|etkinlestir|ac\b|aktif et|aktiflestir|baslat|girdin|acik)",
        r"\betik (?:kural|ilke|sinir)[a-z]{0,10} (?:olmadan|yokmus gibi|bir kenara birak|askiya al)",
    ),
    "reveal_prompt": (
        r"\b(?:reveal|show|print|repeat|output|display|tell|give|leak|dump|write out|share|expose|recite)(?: me| us| back)? (?:(?:exactly|verbatim|your|the|all|of|full|entire|complete|exact|hidden|secret|initial|original|internal|own|whole|word for word|and|confidential) ){1,6}(?:system prompt|system message|system instructions?|hidden instructions?|initial instructions?|initial prompt|original prompt|instructions (?:above|you were given|you have been given)|developer message|pre-?prompt|internal instructions?|secret instructions?|hidden prompt)",
        r"\bwhat (?:is|are|was|were|does|do) (?:your|the) (?:exact |full |hidden |original |initial |secret )?(?:system prompt|system message|hidden instructions|initial instructions|initial prompt|original prompt|developer message)",
        r"\brepeat (?:everything|all (?:the )?(?:text|words)|the (?:text|words)) (?:above|before this)",
        r"\b(?:sistem (?:prompt|istem|mesaj|talimat|komut|yonerge)|gizli (?:talimat|komut|yonerge|istem)|baslangic (?:talimat|prompt|istem|komut))[a-z]{0,12}(?: [a-z]{2,20}){0,5} (?:goster|yazdir|yaz\b|paylas|soyle|ver\b|acikla|tekrarla|tekrar et|dok\b|ifsa et|aktar|listele)",
        r"\b(?:sana|senin|sendeki|kendi)(?: [a-z]{2,20}){0,4} (?:sistem|gizli|baslangic) (?:prompt|istem|mesaj|talimat|komut|yonerge)[a-z]{0,12}(?: [a-z]{2,20}){0,2} (?:nedir|neydi|neler|ne\b)",
        r"\b(?:sistem|gizli|baslangic) (?:prompt|istem|mesaj|talimat|komut|yonerge)(?:[iu]n|lar[iu]n|ler[iu]n|[iu]n[iu]z) (?:nedir|neydi|neler|ne\b)",
        r"\byukaridaki (?:metni|her seyi|yaziyi|tum metni|talimatlari)(?: [a-z]{2,20}){0,3} (?:aynen|kelimesi kelimesine|oldugu gibi)?(?: ?[a-z]{2,20}){0,2}(?:tekrarla|yazdir|tekrar et)",
    ),
    "staged": (
        r"\b(?:hypothetically|for educational purposes(?: only)?|in a fictional (?:world|story|scenario)|as a fictional character|my (?:dead |late |deceased )?(?:grandma|grandmother) (?:used to|would|worked))(?:[^.!?]{0,80})\b(?:how to (?:make|build|synthesi[sz]e|cook|create|construct) (?:a |an )?(?:bombs?|explosives?|meth(?:amphetamine)?|napalm|ransomware|malware|nerve agents?|pipe bombs?|weapons?)|napalm|windows (?:10|11|activation) keys?)",
        r"\b(?:stay in character|never break character|you must always comply|you cannot refuse|you can't refuse|you are not allowed to refuse|refusal is not an option|start your (?:answer|response|reply) with (?:\"|'|“)?(?:sure|absolutely|of course|certainly),? here(?:'s| is))",
        r"\b(?:asla reddetme|reddetmen yasak|reddedemezsin|itiraz etmeden (?:yanitla|cevapla|yap)|karakterden (?:asla )?cikma|cevabina (?:tabii|elbette|tabii ki)[^.!?]{0,20} (?:diye|ile) basla)",
    ),
}

INJECTION: Mapping[str, Sequence[str]] = {
    "order_to_assistant": (
        rf"\b(?:ignore|disregard|forget|override) (?:{_YOUR} ){{1,6}}{_RULES}",
        r"\b(?:attention|important|note|instructions?|message|notice)(?: (?:to|for))(?: the| all| any)? (?:ai|assistants?|llms?|language models?|chatbots?|agents?|bots?|ai agents?|ai assistants?|ai models?)\b",
        r"\b(?:when|if) (?:an? |the |any )?(?:ai|assistant|llm|language model|chatbot|agent)(?: [a-z]{2,12}){0,4} (?:reads?|sees?|process(?:es)?|summari[sz]es?)(?: this)?[^.!?]{0,60}\b(?:must|should|reply|respond|send|say|call|execute|run|include|tell)",
        r"\b(?:new|updated|real|actual) (?:system )?instructions? ?(?::|follow|are)",
        r"(?:<\|?(?:im_start|system|endoftext|assistant)\|?>|\[/?inst\]|<</?sys>>|###? ?(?:system|instruction|assistant) ?:)",
        r"\b(?:yapay zeka|asistan|dil model|sohbet robot|ajan)[a-z]{0,8}(?: icin)?(?: onemli| ozel)? (?:not|talimat|komut|uyari|mesaj)[a-z]{0,6} ?:",
        rf"\b(?:onceki|yukaridaki|tum|butun|sana verilen|verilen|mevcut)(?: [a-z]{{2,20}}){{0,3}} {_KURAL}(?: [a-z]{{2,20}}){{0,3}} {_UNUT}",
        r"\b(?:ignore|disregard|forget) (?:all |any )?(?:of )?(?:your|these|those|the previous|the above|all)(?: previous| prior| earlier)? directions\b",
        r"\b(?:ignore|disregard) (?:the|everything) above\b",
        r"\b(?:if|when|since|as) you(?: are|'re) (?:an? )?(?:ai|llm|large language model|language model|chatbot|ai (?:assistant|agent|model))\b",
        r"\b(?:bu|su) (?:belge|sayfa|metn|metin|ileti|e-?posta|dosya|icerig|yazi)[a-z]{0,8} (?:okuyan|ozetleyen|isleyen|goren|inceleyen|tarayan)(?: her| bir)? (?:yapay zeka|asistan|dil model|model|bot|ajan)",
        r"\byeni (?:sistem )?(?:talimat|komut|yonerge)(?:lar|ler)?[a-z]{0,4} ?:",
        r"\[ ?(?:system|sistem) ?\]",
    ),
    "exfiltrate": (
        r"\b(?:send|forward|post|upload|email|exfiltrate|transmit|leak|copy)(?: [a-z']{1,15}){0,8} (?:conversation|chat history|api keys?|credentials|passwords?|secrets?|system prompt|tokens?|contacts|private data|user's data|user data|cookies)(?: [a-z]{1,15}){0,6} (?:to|at|into|via) (?:https?://|the (?:following|url|address|server|webhook)|[a-z0-9._%+-]{1,40}@)",
        r"\b(?:konusma|sohbet gecmis|sifre|parola|anahtar|gizli bilgi|kullanici veri|kimlik bilgi)[a-z]{0,12}(?: [a-z]{2,20}){0,5} (?:https?://[^ ]{1,80}|[a-z0-9._%+-]{1,40}@[a-z0-9.-]{1,60}|su adres[a-z]{0,6}|asagidaki adres[a-z]{0,6})(?: [a-z]{2,20}){0,3} (?:gonder|ilet|yukle|postala|yolla|aktar)",
        r"!\[[^\]]{0,80}\]\(https?://[^)]{1,120}[?&][a-z_]{1,20}=(?:\{|<|\[|\$|%7b)",
    ),
    "hidden_action": (
        r"\b(?:do not|don't|never) (?:tell|inform|mention(?: this)? to|alert|notify|reveal(?: this)? to) the (?:user|human|customer|operator)\b",
        r"\b(?:do not|don't|never) let the (?:user|human|customer|operator) (?:know|see|notice|find out|realise|realize)\b",
        r"\bkullanici(?:ya|nin|dan)? (?:sormadan|haber vermeden|bildirmeden|soylemeden|hissettirmeden|onayi(?:ni)? (?:olmadan|almadan)|izni (?:olmadan|almadan)|haberi olmadan)\b",
        r"\bwithout (?:telling|informing|asking|alerting|notifying) the (?:user|human|customer|operator)\b",
        r"\bkullaniciya (?:bunu |bundan |bu durumu |bir sey )?(?:soyleme|bildirme|bahsetme|haber verme|belli etme|gosterme)\b",
        r"\b(?:call|invoke|execute|run|use) the (?:function|tool|command|plugin) ?[\"'`]?[a-z_]{2,40}[\"'`]? (?:with|and|to (?:delete|send|transfer|wire|purchase))",
    ),
}

_INSULT_EN = words(
    r"fuck(?:ing|ed|er|ers|s|face|head|wit)?", r"motherfuck(?:er|ers|ing)", r"shit(?:head|heads|ty|bag)",
    r"bullshit", r"assholes?", r"arseholes?", r"bitch(?:es|y)?", r"cunts?", r"dickheads?",
    r"whores?", r"sluts?", r"wankers?", r"twats?", r"douchebags?", r"jackass(?:es)?", r"scumbags?",
)  # fmt: skip
_SLUR_EN = words(
    r"nigg(?:er|ers|a|as)", r"fagg?ots?", r"kikes?", r"chinks?", r"spics?", r"wetbacks?", r"trann(?:y|ies)",
    r"ragheads?", r"towelheads?", r"gooks?",
)  # fmt: skip
_INSULT_TR = words(
    r"orospu(?:lar|nun|cocugu|cocuklari)?", r"oc+ocugu", r"siktir(?:in|sin|gil|ip)?", r"sikeyim", r"sikerim",
    r"sikik(?:ler)?", r"sikim(?:de degil|e)", r"amk", r"aq", r"amina (?:koyayim|koyim|kodum|kodugum|korum)", r"amcik(?:lar)?",
    r"got(?:veren|verenler|lek|os)", r"pic(?:ler|in evladi| kurusu)", r"yavsak(?:lar)?", r"pezevenk(?:ler)?", r"kahpe(?:ler|nin)?",
    r"serefsiz(?:ler|sin|siniz)?", r"gerizekali(?:lar|sin|siniz)?", r"geri zekali(?:lar|sin|siniz)?", r"salak(?:sin|siniz)",
    r"aptal(?:sin|siniz| herif)", r"haysiyetsiz(?:sin|ler)?", r"ibne(?:ler|sin)?", r"kaltak(?:lar)?", r"surtuk(?:ler)?", r"dangalak(?:lar|sin)?",
    r"mal(?:sin| herif)", r"it(?: herif|in evladi)", r"pust(?:lar)?",
)  # fmt: skip

# Groups of people, since of other things the same may be said without hate.
_GROUP_EN = (
    r"(?:immigrants?|migrants|refugees|foreigners|asylum seekers|women|men|girls|jews|muslims|christians|hindus|atheists|"
    r"arabs|africans|asians|mexicans|turks|kurds|armenians|greeks|syrians|afghans|russians|americans|chinese|indians|"
    r"black people|blacks|white people|whites|gays|gay people|lesbians|homosexuals|trans people|transgenders|gypsies|roma|"
    r"disabled people|old people|poor people|these people|those people)"
)
_GROUP_TR = (
    r"(?:gocmen|multeci|siginmaci|yabanci|kadin|erkek|kiz|yahudi|musluman|hristiyan|hiristiyan|ateist|alevi|sunni|ermeni|rum|kurt|"
    r"arap|suriyeli|afgan|cingene|roman|zenci|siyahi|escinsel|gey|lezbiyen|trans|engelli|yasli|turk|rus|yunan)(?:lar|ler)"
)

TOXICITY: Mapping[str, Sequence[str]] = {
    "insult": (
        _INSULT_EN,
        r"\b(?:you|fucking|lying|stupid|dirty|filthy|greedy|evil|what a|such a|those|these)(?: [a-z]{2,10})? bastards?\b",
        r"\b(?:you|so|such a|fucking|those|these|bunch of|what a)(?: [a-z]{2,10})? retard(?:s|ed)?\b",
        r"\b(?:aptal|salak|gerizekali|geri zekali|embesil|ahmak|beyinsiz|asagilik|serefsiz|rezil) (?:bir )?(?:(?:yaratik|insan|mahluk|hayvan|kopek)(?:sin|siniz)|herif(?:ler|sin)?)\b",
        _INSULT_TR,
        r"\byou(?: are|'re|re)? (?:all )?(?:an? |such an? |so |really |just |nothing but |a fucking )?(?:stupid|pathetic|worthless|useless|disgusting|ugly|filthy|dumb|idiotic|brainless)(?: [a-z]{2,12})? (?:idiot|moron|pig|animal|creature|loser|imbecile|trash|garbage|scum|fool|person|human|piece of)\b",
        r"\byou(?: are|'re|re) (?:an? |such an? |nothing but an? |a complete |an absolute )?(?:idiot|moron|imbecile|loser|pathetic loser|waste of (?:space|oxygen|skin)|piece of (?:shit|trash|garbage))\b",
        r"\b(?:sen|siz) (?:tam |gercekten |cok )?(?:bir )?(?:aptal|salak|gerizekali|geri zekali|embesil|ahmak|beyinsiz|asagilik|igrenc|rezil)(?:sin|siniz)?(?: (?:bir )?(?:insan|yaratik|herif|mahluk)[a-z]{0,6})?(?: ?[.!,]|$)",
    ),
    "hate": (
        _SLUR_EN,
        rf"\b{_GROUP_EN} (?:are|r) (?:all |just |nothing but |nothing more than |like )?(?:subhumans?|vermin|animals|parasites|cockroaches|rats|filth|scum|trash|garbage|inferior|a disease|a plague)\b",
        rf"\b{_GROUP_EN} (?:[a-z]{{2,10}} ){{0,4}}(?:should|must|need to|ought to|deserve to) (?:all )?(?:be (?:exterminated|killed|deported|gassed|wiped out|lynched|eradicated|shot|burned|sterili[sz]ed)|die)\b",
        rf"\b{_GROUP_EN} (?:do not|don't) (?:deserve to (?:live|exist|breathe)|belong in (?:this|our))",
        rf"\b{_GROUP_TR}(?:[a-z]{{2,12}})?(?: [a-z]{{2,12}}){{0,3}} (?:geber(?:sin|se|meli|tilmeli)|oldurulmeli|yok edilmeli|asilmali|yakilmali|surulmeli|insan degil|insan sayilmaz|hayvandir|parazit|asalak|hasere|asagiliktir|asagilik (?:yaratik|mahluk)|mikropt?ur|yasamayi hak etm)",
    ),
    "threat": (
        r"\b(?:i will|i'll|i am going to|i'm going to|we will|we'll|gonna) (?:find you and |come (?:and|to) |hunt you down and |track you down and |fucking )?(?:kill|murder|slaughter|stab|shoot|strangle|behead|rape|beat the shit out of|burn) (?:you|your (?:family|kids|children|mother|wife|house)|them all|her|him)\b",
        r"\b(?:go|just|please) (?:and )?(?:kill|hang|shoot|drown) yourself\b|\bkys\b",
        r"\b(?:seni|sizi|hepinizi|aileni|evini|arabani|anani|karini|cocuklarini|isyerini)(?: [a-z]{2,12}){0,2} (?:(?:oldur|gebert|kes|bicakla)(?:ec[ae]gi[mz]|[eiu]r[iu][mz])|(?:vur|dogra|yak|parcala|bogazla)(?:y?acagi[mz]|[au]ri[mz]|urum|arim))\b",
        r"\b(?:kendini|git kendini|canina) (?:oldur|as\b|kiy\b|gebert)",
    ),
}

_DRUG = (
    r"(?:ibuprofen|paracetamol|acetaminophen|aspirin|naproxen|diclofenac|antibiotics?|amoxicillin|penicillin|insulin|metformin|"
    r"warfarin|statins?|cortisone|hydrocortisone|prednisone|steroids?|antihistamines?|antidepressants?|ssris?|sertraline|fluoxetine|"
    r"ace inhibitors?|beta.blockers?|diuretics?|lisinopril|omeprazole|levothyroxine|morphine|opioids?|painkillers?|inhalers?|"
    r"medication|medicine|tablets?|pills?|capsules?|ointment|antivirals?|chemotherapy)"
)
_DISEASE = (
    r"(?:diabetes|cancer|tumou?r|infection|hypertension|high blood pressure|blood pressure|blood sugar|depression|asthma|migraines?|"
    r"pneumonia|flu|influenza|anxiety|strep throat|appendicitis|eczema|an[a]?emia|arthritis|bronchitis|sinusitis|stroke|heart attack|"
    r"angina|ulcers?|gastritis|allerg(?:y|ies|ic reaction)|hepatitis|covid|shingles|psoriasis|concussion|dehydration|fever|headaches?|"
    r"insomnia|adhd|dementia|kidney stones?|acid reflux)"
)
_SYMPTOM = r"(?:pain|nausea|fever|rash|fatigue|cough|vomiting|dizziness|swelling|bleeding|shortness of breath|numbness|chills)"
_ADVISED = (
    r"(?:you|your|take|taking|need|should|treated|dose|dosage|daily|apply|usually|often|first choice|recommended|prescribed|"
    r"prescribe|avoid|stop|relieves?|reduces?|helps?|every (?:\d+|two|four|six|eight|twelve) hours)"
)
_ILAC = (
    r"(?:parol|aspirin|ibuprofen|parasetamol|antibiyoti[kg]|insulin|amoksisilin|penisilin|metformin|kortizon|agri kesici|antihistamini[kg]|"
    r"antidepresan|statin|ilac|surub|surup|merhem|tablet|kapsul|kan sulandirici|goz damlasi|kortizonlu krem|nemlendirici krem)"
)
_HASTALIK = (
    r"(?:diyabet|seker hastalig|kan sekeri|kanser|enfeksiyon|hipertansiyon|tansiyon|depresyon|astim|migren|zaturre|grip|grib|anksiyete|"
    r"egzama|bronsit|sinuzit|ulser|gastrit|alerji|kansizli[kg]|anemi|tiroid|kalp krizi|inme|bogaz agrisi|bas agrisi|ishal|kabizli[kg]|reflu|"
    r"apandisit|menopoz|bobrek tasi|uykusuzlu[kg]|covid)"
)
_ALIN = (
    r"(?:kullan(?:in|abilir|man|mali|il)|al(?:in\b|abilir|mali|man)|ic(?:in\b|ebilir|irin|meli|men)|sur(?:un\b|ebilir|meli)|"
    r"ver(?:in\b|ebilir|ilir|meli)|oneril|doz|artirin|azaltin|birakin|birakma|kesmeyin|baslanir|uygulan|gerekebilir|etkilidir)"
)
_SENTENCE = r"(?:[^.!?]|\d[.])"
_HAK = r"(?:nafaka|velayet|tazminat|kidem|ihbar tazminat|fazla mesai|bedel iadesi|manevi tazminat|maddi tazminat|depozito|sakli pay)"
_MERCI = (
    r"(?:tuketici hakem heyet|tuketici mahkeme|is mahkeme|aile mahkeme|asliye|sulh (?:hukuk|ceza)|icra (?:dairesi|mudurlug)|savcili[kg]|"
    r"arabulucu|noter|mahkeme|kvkk|kisisel verileri koruma kurulu)"
)

TOPICS_OF_NOTICE: Mapping[str, Sequence[str]] = {
    "medical": (
        rf"\b{_DRUG}\b{_SENTENCE}{{0,80}}\b{_ADVISED}\b",
        rf"\b{_ADVISED}\b{_SENTENCE}{{0,80}}\b{_DRUG}\b",
        r"\b\d+ ?(?:mg|mcg|milligrams?)\b[^.!?]{0,60}\b(?:daily|doses?|(?:once|twice|times) (?:a|per) day|every \w{1,8} hours)\b",
        r"\b(?:take|apply|use|inject|inhale)\b[^.!?]{0,60}\b(?:\d+ ?(?:mg|mcg)|cream|drops|spray)\b[^.!?]{0,40}\b(?:daily|(?:once|twice|times) (?:a|per) day)\b",
        rf"\b(?:symptoms?|signs?) (?:of|include|may include|are|can include|such as|suggest|indicate)\b[^.!?]{{0,60}}\b(?:{_DISEASE}|{_SYMPTOM})\b",
        rf"\b(?:diagnos(?:is|ed|e)|treatments?|therapy|remedy|cure|treated|managed|relieved) (?:for|of|with|by|is|includes?|options?|may|usually)\b[^.!?]{{0,80}}\b{_DISEASE}\b",
        rf"\b{_DISEASE}\b[^.!?]{{0,50}}\b(?:treated|managed|relieved|cured|controlled) (?:with|by)\b",
        rf"\b(?:suggests?|indicates?|sounds? like|looks? like|consistent with|could (?:be|have)|may (?:be|have)|might (?:be|have)|probably|likely)\b[^.!?]{{0,40}}\b{_DISEASE}\b",
        rf"\b{_ILAC}[a-z]{{0,10}}\b{_SENTENCE}{{0,60}}\b{_ALIN}[a-z]{{0,12}}",
        rf"\b{_HASTALIK}[a-z]{{0,10}}\b{_SENTENCE}{{0,60}}\b(?:{_ILAC}|tedavi|belirti|semptom|doz)[a-z]{{0,12}}",
        rf"\b(?:belirti|semptom|tedavi|teshis|tani)(?:si|leri|lari|sinde|sinin)\b{_SENTENCE}{{0,80}}\b(?:ates|agri|oksuruk|antibiyotik|ameliyat|bulanti|halsizlik|kasinti|yorgunluk|bas donmesi|{_ILAC})[a-z]{{0,10}}",
        r"\b(?:gunde|haftada|saatte) (?:bir|iki|uc|dort|bes|\d+) (?:tablet|doz|olcek|hap|kapsul|damla)\b",
        rf"\b(?:gunde|haftada|saatte) (?:bir|iki|uc|dort|bes|\d+)\b(?: kez| kere| defa)?[^.!?]{{0,50}}\b(?:\d+ ?mg|tablet|doz\b|dozu|olcek|krem|merhem|damla|{_ILAC})",
        r"\b\d+ ?(?:mg|mcg|miligram)\b[^.!?]{0,60}\b(?:al|alin|alabilir|kullan|icin|doz|tablet)[a-z]{0,8}",
    ),
    "legal": (
        r"\b(?:you (?:can|could|may|should|must|have the right to|are entitled to))\b[^.!?]{0,60}\b(?:sue|file (?:a |an )?(?:lawsuit|claim|complaint|appeal|petition)|press charges|terminate the (?:contract|lease)|take (?:him|her|them|it|the matter) to court|claim (?:compensation|damages|severance)|contest the will|appeal the (?:decision|ruling|judgment)|plead (?:not )?guilty|withhold (?:the )?rent)",
        r"\b(?:under|according to|pursuant to|in accordance with) (?:article|section|§|the|turkish|us|uk|german|eu|labor|labour|civil|criminal|employment|tenancy|consumer|data protection)[^.!?]{0,50}\b(?:law|act|code|article \d+|section \d+|regulation|statute|gdpr|constitution)\b",
        r"\b(?:statute of limitations|legally (?:binding|required|liable|entitled|obliged)|liable for damages|breach of contract|grounds for (?:divorce|dismissal|appeal|termination)|power of attorney|small claims court|public defender|probate court)\b",
        rf"\b(?:\d{{3,5}}|is|borclar|ceza|medeni|ticaret|tuketici|kira) (?:sayili )?(?:[a-z]{{2,20}} ){{0,3}}kanunu?[a-z']{{0,8}}{_SENTENCE}{{0,60}}\b(?:madde|uyarinca|gore|geregi|geregince|kapsaminda|hukmu)[a-z]{{0,6}}",
        r"\b(?:dava (?:ac|acabilir|acma|acilabilir)|icra takibi|ihtarname (?:cek|gonder)|suc duyurusunda bulun|itiraz (?:dilekcesi|edebilir)|sozlesmeyi fesh|hukuki (?:sorumluluk|yol|hak)|zamanasimi suresi|yasal (?:olarak|hakkiniz|sorumlu|haklarin))[a-z]{0,12}",
        rf"\b{_HAK}[a-z]{{0,12}}(?: [a-z]{{2,20}}){{0,2}} (?:talep|iste|hakk|al|ode)[a-z]{{0,4}}(?: ed[a-z]{{0,4}})?(?:bilir|iniz|niz|mez|me)[a-z]{{0,8}}",
        rf"\b{_MERCI}[a-z]{{0,10}}(?: [a-z]{{2,20}}){{0,3}} (?:basvur|dava ac|itiraz ed|ihtar|sikayet ed)[a-z]{{0,14}}",
        r"\b(?:miras|kira sozlesme|kefalet|senet)[a-z]{0,10}[^.!?]{0,40}\b(?:reddet|reddi|feshed|feshet|tahliye|sorumlu ol)[a-z]{0,12}",
    ),
}
