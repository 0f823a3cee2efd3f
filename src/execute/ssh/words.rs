//! The words of an SSH configuration: lines and quotes, patterns, `%` tokens, `${VAR}`, `~` and globs.

use std::path::{Path, PathBuf};

/// Keyword (lower case) and arguments of a line; `None` for an empty line or a comment.
pub(super) fn split(raw: &str) -> Result<Option<(String, Vec<String>)>, String> {
    let text = raw.trim_matches([' ', '\t', '\r', '\u{c}']);
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let end = text.find([' ', '\t', '=']).unwrap_or(text.len());
    let keyword = text[..end].to_ascii_lowercase();
    let rest = text[end..].trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let arguments = words(rest)?;
    if keyword.is_empty() || arguments.is_empty() {
        return Err(format!("`{text}` has no argument"));
    }
    Ok(Some((keyword, arguments)))
}

/// Splits at blanks; double quotes keep blanks together; a word that starts with `#` ends the line.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted && matches!(chars.peek(), Some('"' | '\\')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            ' ' | '\t' if !quoted => found.extend(word.take()),
            '#' if !quoted && word.is_none() => break,
            c => word.get_or_insert_default().push(c),
        }
    }
    if quoted {
        return Err("a double quote is not closed".to_owned());
    }
    found.extend(word);
    Ok(found)
}

/// Whether a list of `Host` patterns applies to `name`: one matches and no negated one does.
pub(super) fn matches(patterns: &[String], name: &str) -> bool {
    let (negated, plain): (Vec<&str>, Vec<&str>) =
        patterns.iter().map(String::as_str).partition(|pattern| pattern.starts_with('!'));
    plain.iter().any(|pattern| wildcard(pattern, name)) && !negated.iter().any(|pattern| wildcard(&pattern[1..], name))
}

/// `*` and `?` against the whole of `name`, without regard to case.
pub(super) fn wildcard(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, at)) => {
                    p = after;
                    n = at + 1;
                    star = Some((after, at + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Replaces `%x` tokens; `%%` is a percent sign; what is not known stays as it is.
pub(super) fn tokens(text: &str, known: &[(char, &str)]) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(token) => match known.iter().find(|(name, _)| *name == token) {
                Some((_, value)) => out.push_str(value),
                None => out.extend(['%', token]),
            },
            None => out.push('%'),
        }
    }
    out
}

/// Replaces `${NAME}` by the environment's value.
pub(super) fn environment(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        out.push_str(&std::env::var(name).unwrap_or_default());
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The user's home directory.
pub(crate) fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"))
}

/// `~` and `~/x` below `home`.
pub(crate) fn expand_home(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => PathBuf::from(text),
    }
}

/// Files that match a pattern with wildcards in its path components, sorted; none when nothing matches.
pub(super) fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let text = part.as_os_str().to_string_lossy();
        if !text.contains(['*', '?']) {
            for path in &mut found {
                path.push(part);
            }
            continue;
        }
        found = found
            .iter()
            .flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                (!name.starts_with('.') || text.starts_with('.')) && wildcard(&text, &name)
            })
            .map(|entry| entry.path())
            .collect();
        found.sort();
    }
    found.retain(|path| path.is_file());
    found
}
