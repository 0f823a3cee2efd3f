//! `.dockerignore`: which files of a context are left out. The same rules as the engine's own client: patterns match the
//! whole path from the context's root, a pattern that matches a folder covers what is in it, the last match counts, and
//! `!` takes back.

/// The rules of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    keep: bool,
    pattern: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**` at the end
    All,
    /// `**/`
    Folders,
    /// `[a-z]`, `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    /// Reads the rules of `text`.
    ///
    /// # Errors
    /// Line (from 1), pattern and reason of the first one that is no pattern.
    pub fn parse(text: &str) -> Result<Self, (usize, String, String)> {
        let mut rules = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            // Only a `#` in the first column begins a comment.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                continue;
            }
            let cleaned = clean(pattern);
            if cleaned.is_empty() {
                if keep {
                    return Err((index + 1, line.to_owned(), "`!` without a path".to_owned()));
                }
                continue;
            }
            let pattern = tokens(&cleaned).map_err(|why| (index + 1, line.to_owned(), why))?;
            rules.push(Rule { keep, pattern });
        }
        Ok(Ignore { rules })
    }

    /// Whether the file or folder at `path` (relative, `/` between parts) is left out.
    pub fn is_ignored(&self, path: &str) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            // A rule that cannot change the answer need not be looked at.
            if rule.keep == ignored && covers(&rule.pattern, path) {
                ignored = !rule.keep;
            }
        }
        ignored
    }

    /// Whether everything in an ignored folder is ignored too, so that it need not be looked at.
    pub fn is_final(&self) -> bool {
        !self.rules.iter().any(|rule| rule.keep)
    }
}

/// Without leading and trailing `/`, `.` and `..` folded.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether the pattern matches `path` or a folder above it.
fn covers(pattern: &[Token], path: &str) -> bool {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.into_iter().any(|end| matches(pattern, &path[..end]))
}

fn tokens(pattern: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if chars.peek() == Some(&'*') => {
                while chars.next_if_eq(&'*').is_some() {}
                if chars.next_if_eq(&'/').is_some() { Token::Folders } else { Token::All }
            }
            '*' => Token::Some,
            '?' => Token::One,
            '[' => class(&mut chars)?,
            '\\' => Token::Char(chars.next().ok_or("a backslash at its end")?),
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, String> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let literal = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| match chars.next() {
        Some('\\') => chars.next(),
        other => other,
    };
    loop {
        match chars.peek() {
            None => return Err("`[` is not closed".into()),
            Some(']') if !ranges.is_empty() => {
                chars.next();
                return Ok(Token::Class { negated, ranges });
            }
            Some(_) => {
                let low = literal(chars).ok_or("`[` is not closed")?;
                let high = match chars.next_if_eq(&'-') {
                    Some(_) => literal(chars).ok_or("`[` is not closed")?,
                    None => low,
                };
                if high < low {
                    return Err(format!("`{low}-{high}` is an empty range"));
                }
                ranges.push((low, high));
            }
        }
    }
}

/// Whether the whole of `text` matches; linear in the product of both lengths.
fn matches(pattern: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // reached[i]: the tokens so far can have consumed text[..i].
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in pattern {
        let mut next = vec![false; text.len() + 1];
        match token {
            Token::Some => spread(&reached, &mut next, |c| c != '/', &text),
            Token::All => spread(&reached, &mut next, |_| true, &text),
            Token::Folders => {
                let mut any = false;
                for at in 0..=text.len() {
                    next[at] = reached[at] || (any && text[at - 1] == '/');
                    any |= reached[at];
                }
            }
            one => {
                for at in 0..text.len() {
                    next[at + 1] = reached[at] && accepts(one, text[at]);
                }
            }
        }
        reached = next;
    }
    reached[text.len()]
}

/// Any number of characters that `allowed` lets through.
fn spread(reached: &[bool], next: &mut [bool], allowed: impl Fn(char) -> bool, text: &[char]) {
    let mut running = false;
    for at in 0..=text.len() {
        running = reached[at] || (running && at > 0 && allowed(text[at - 1]));
        next[at] = running;
    }
}

fn accepts(token: &Token, c: char) -> bool {
    match token {
        Token::Char(wanted) => *wanted == c,
        Token::One => c != '/',
        Token::Class { negated, ranges } => {
            c != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
        Token::Some | Token::All | Token::Folders => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(rules: &str, path: &str) -> bool {
        Ignore::parse(rules).unwrap().is_ignored(path)
    }

    #[test]
    fn single_patterns() {
        for (rules, path, expected) in [
            ("target", "target", true),
            ("target", "target/debug/x", true),
            ("target", "src/target", false),
            ("/target/", "target/x", true),
            ("*.log", "a.log", true),
            ("*.log", "a/b.log", false),
            ("**/*.log", "a/b/c.log", true),
            ("**/*.log", "c.log", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**", "a/b/c", true),
            ("**", "anything/at/all", true),
            ("*/temp*", "x/temporary", true),
            ("*/temp*", "x/y/temp", false),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("./a/../b", "b/c", true),
            ("# not this\na", "# not this", false),
            (".", "a", false),
        ] {
            assert_eq!(ignored(rules, path), expected, "{rules:?} on {path}");
        }
    }

    #[test]
    fn the_last_match_counts() {
        let rules = "*.md\n!README*.md\nREADME-secret.md\n";
        assert!(ignored(rules, "a.md") && !ignored(rules, "README-x.md") && ignored(rules, "README-secret.md"));
        let rules = "docs\n!docs/keep\n";
        assert!(ignored(rules, "docs/a") && !ignored(rules, "docs/keep/b"));
        assert!(!Ignore::parse(rules).unwrap().is_final() && Ignore::parse("a\n").unwrap().is_final());
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        assert_eq!(Ignore::parse("a\n[b\n").unwrap_err().0, 2);
        assert!(Ignore::parse("!\n").is_err() && Ignore::parse("a\\").is_err() && Ignore::parse("[z-a]").is_err());
    }
}
