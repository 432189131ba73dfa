//! Which language does a page speak?
//!
//! The one that was chosen (a cookie), else the first of the browser's (`Accept-Language`) that there is;
//! Chinese where it names neither. Both texts stand side by side where they are used.

use http::{HeaderMap, header};

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lang {
    /// Simplified Chinese.
    Zh,
    /// English.
    En,
}

/// Name of the cookie that keeps the choice.
pub(super) const COOKIE: &str = "suiyue_lang";

impl Lang {
    /// The language that a request wants.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let chosen = super::cookie(headers, COOKIE).and_then(Self::named);
        let accepted =
            || headers.get(header::ACCEPT_LANGUAGE).and_then(|value| accepted(value.to_str().ok()?));
        chosen.or_else(accepted).unwrap_or(Self::Zh)
    }

    /// `zh` or `en`.
    pub(super) fn named(word: &str) -> Option<Self> {
        [Self::Zh, Self::En].into_iter().find(|lang| lang.word() == word)
    }

    /// The word in cookie and links.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Zh => "zh",
            Self::En => "en",
        }
    }

    /// For the page's `lang`.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::Zh => "zh-CN",
            Self::En => "en",
        }
    }

    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Zh => Self::En,
            Self::En => Self::Zh,
        }
    }

    /// The text in this language.
    pub(super) const fn t<'a>(self, zh: &'a str, en: &'a str) -> &'a str {
        match self {
            Self::Zh => zh,
            Self::En => en,
        }
    }
}

/// The best of what a browser accepts that there is.
fn accepted(value: &str) -> Option<Lang> {
    let mut best: Option<(f32, Lang)> = None;
    for part in value.split(',').take(32) {
        let mut pieces = part.split(';');
        let tag = pieces.next()?.trim().to_ascii_lowercase();
        let quality = pieces.find_map(|piece| piece.trim().strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        let lang = match tag.split('-').next() {
            Some("zh") => Lang::Zh,
            Some("en") => Lang::En,
            _ => continue,
        };
        if quality > 0.0 && best.is_none_or(|(known, _)| quality > known) {
            best = Some((quality, lang));
        }
    }
    best.map(|(_, lang)| lang)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cookie: &str, accept: &str, expected: Lang) {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        headers.insert(header::ACCEPT_LANGUAGE, accept.parse().unwrap());
        assert_eq!(Lang::of(&headers), expected, "{cookie} {accept}");
    }

    #[test]
    fn what_was_chosen_wins_over_what_the_browser_says() {
        check("", "en-GB,en;q=0.9", Lang::En);
        check("", "zh-CN,zh;q=0.9,en;q=0.8", Lang::Zh);
        check("", "en;q=0.5, zh-TW;q=0.7", Lang::Zh);
        check("", "fr, en;q=0.1", Lang::En);
        check("", "fr, en;q=0", Lang::Zh);
        check("", "de", Lang::Zh);
        check("suiyue_lang=en", "zh", Lang::En);
        check("a=b; suiyue_lang=zh", "en", Lang::Zh);
        check("suiyue_lang=xx", "en;q=x", Lang::En);
        assert_eq!(Lang::of(&HeaderMap::new()), Lang::Zh);
    }
}
