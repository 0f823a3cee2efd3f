//! `${VAR}` in values, `.env` files, and strings split into words as a shell would.

use indexmap::IndexMap;

use super::yaml::{Node, Value, fail};
use super::{ComposeError, Warning};

/// Defaults inside defaults go no deeper than this.
const DEPTH_LIMIT: usize = 16;

/// A value may not grow beyond this by interpolation, bytes.
const LENGTH_LIMIT: usize = 1 << 20;

/// Replaces variables in every value below `root`; keys stay as they are.
pub(super) fn apply(
    root: &mut Node,
    variables: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<Warning>,
) -> Result<(), ComposeError> {
    walk(root, &mut String::new(), variables, warnings)
}

fn walk(
    node: &mut Node,
    path: &mut String,
    variables: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<Warning>,
) -> Result<(), ComposeError> {
    let length = path.len();
    match &mut node.value {
        Value::Null => {}
        Value::Scalar { text, .. } => {
            if text.contains('$') {
                let mut unset = Vec::new();
                *text = expand(text, variables, &mut unset, 0).map_err(|why| fail(node.line, path, why))?;
                warnings.extend(unset.into_iter().map(|name| Warning {
                    line: node.line,
                    path: path.clone(),
                    what: format!("the variable `{name}` is not set; an empty text takes its place"),
                }));
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(item, path, variables, warnings)?;
                path.truncate(length);
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&key.name);
                walk(value, path, variables, warnings)?;
                path.truncate(length);
            }
        }
    }
    Ok(())
}

/// `text` with its variables replaced; names without a value are added to `unset`.
fn expand(
    text: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, String> {
    if depth > DEPTH_LIMIT {
        return Err(format!("defaults nested deeper than {DEPTH_LIMIT} levels"));
    }
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            done.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| format!("`${{` without its `}}` in `{text}`"))?;
            done.push_str(&braced(&after[..end], variables, unset, depth)?);
            rest = &after[end + 1..];
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("`$` without a variable's name in `{text}` (a plain dollar is written `$$`)"));
            }
            done.push_str(&value(&rest[..end], variables, unset));
            rest = &rest[end..];
        }
        if done.len() > LENGTH_LIMIT {
            return Err("a value grows beyond 1 MiB".into());
        }
    }
    done.push_str(rest);
    Ok(done)
}

fn value(name: &str, variables: &dyn Fn(&str) -> Option<String>, unset: &mut Vec<String>) -> String {
    variables(name).unwrap_or_else(|| {
        unset.push(name.to_owned());
        String::new()
    })
}

/// Where the brace that was opened before `text` closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The inside of `${...}`.
fn braced(
    inside: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, String> {
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("`${{{inside}}}` does not name a variable"));
    }
    if rest.is_empty() {
        return Ok(value(name, variables, unset));
    }
    let (colon, operator) = match rest.strip_prefix(':') {
        Some(after) => (true, after),
        None => (false, rest),
    };
    let found = variables(name).filter(|text| !(colon && text.is_empty()));
    let mut chars = operator.chars();
    match (chars.next(), found) {
        (Some('-' | '?'), Some(found)) => Ok(found),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(chars.as_str(), variables, unset, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let message = expand(chars.as_str(), variables, unset, depth + 1)?;
            let message = if message.is_empty() { String::new() } else { format!(": {message}") };
            Err(format!("the variable `{name}` must be set{message}"))
        }
        _ => Err(format!("`${{{inside}}}` is no form of `${{VAR}}`, `${{VAR:-default}}`, `${{VAR:?message}}`")),
    }
}

/// The variables of a `.env` file. Quotes around a value are taken off, `#` after a blank begins a comment,
/// `export` is passed over.
///
/// # Errors
/// A fragment with the line that is no `NAME=value`.
pub fn dotenv(text: &str) -> Result<IndexMap<String, String>, String> {
    let mut variables = IndexMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| format!("line {}: not `NAME=value`", index + 1))?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("line {}: `{name}` is no variable's name", index + 1));
        }
        variables.insert(name.to_owned(), unquote(value.trim()));
    }
    Ok(variables)
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            let escaped = |text: &str| text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\");
            return if quote == '"' { escaped(inside) } else { inside.to_owned() };
        }
    }
    let end = value.find(" #").or_else(|| value.find("\t#")).unwrap_or(value.len());
    value[..end].trim_end().to_owned()
}

/// A command line as its words: quotes and backslashes as in a shell, nothing else expanded.
///
/// # Errors
/// A fragment when a quote is not closed.
pub fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(format!("a single quote is not closed in `{line}`")),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())
                .ok_or_else(|| format!("a double quote is not closed in `{line}`"))?,
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Up to the closing quote; none when there is none.
fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                '\n' => {}
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let variables = |name: &str| match name {
            "TAG" => Some("4.4".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &variables, &mut Vec::new(), 0)
    }

    #[test]
    fn every_form_of_a_variable() {
        for (text, expected) in [
            ("mongo:${TAG}", "mongo:4.4"),
            ("mongo:$TAG-x", "mongo:4.4-x"),
            ("${NO:-a}${NO-b}", "ab"),
            ("${EMPTY:-a}${EMPTY-b}", "a"),
            ("${NO:-${EMPTY:-deep}}", "deep"),
            ("${TAG:+set}${NO:+set}", "set"),
            ("$$HOME $${x}", "$HOME ${x}"),
            ("${NO:-a}b}", "ab}"),
            ("${NO}", ""),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_said() {
        assert_eq!(expanded("${NO:?set it}"), Err("the variable `NO` must be set: set it".into()));
        for text in ["${", "${}", "a$", "$5", "${A!b}", "${1A}"] {
            assert!(expanded(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_as_a_shell_splits_them() {
        let line = r#"redis-server --port 6379 --name "a b\"c" 'd $e' f\ g "" \"#;
        assert_eq!(
            split_words(line).unwrap(),
            ["redis-server", "--port", "6379", "--name", "a b\"c", "d $e", "f g", "", ""]
        );
        assert!(split_words("a 'b").is_err() && split_words("a \"b").is_err());
        assert!(split_words("  \t ").unwrap().is_empty());
    }

    #[test]
    fn env_files() {
        let text = "# c\nA=1\nexport B='x # y'\nC=\"p\\nq\" # z\nD=v # w\nE=\n";
        let variables = dotenv(text).unwrap();
        let shown: Vec<_> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(shown, [("A", "1"), ("B", "x # y"), ("C", "p\nq"), ("D", "v"), ("E", "")]);
        assert_eq!(dotenv("A=1\nnonsense\n"), Err("line 2: not `NAME=value`".into()));
    }
}
