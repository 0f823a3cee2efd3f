//! The one error type that reaches `main`, and the exit codes that scripts may rely on.
//!
//! Each module owns a small enum of what can go wrong there and implements [`Fault`] for it; `?` then turns it
//! into an [`Error`]. A message is a lower-case fragment that names the thing and the place (values in backticks);
//! the next move goes into [`Fault::hint`].

use std::fmt;

/// Exit codes of the binary. They are an interface: shell loops and CI jobs branch on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A bug in maestro itself.
    Bug = 1,
    /// Wrong usage, or a configuration file that cannot be used.
    Usage = 2,
    /// Something outside (a host, an engine, a port, a disk) could not be reached or used.
    Unreachable = 3,
    /// A step was carried out and failed.
    StepFailed = 4,
    /// The run ended, but its numbers must not be used.
    RunVoid = 5,
    /// Interrupted by the user (^C or SIGTERM).
    Interrupted = 130,
}

/// What a module's error type tells `main`: its message (`Display`), its exit code and the next move.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// The exit code the process ends with.
    fn exit(&self) -> Exit;

    /// The next move for the person who reads the message: a full command or one plain sentence.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Any module's [`Fault`], on its way to the edge.
pub struct Error(Box<dyn Fault>);

/// Result of everything that a command does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The exit code of the process.
    pub fn exit_code(&self) -> Exit {
        self.0.exit()
    }

    /// The next move, if there is one to name.
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    /// The message with all its sources on one line: `a: b: c`. What a file or a host put into it cannot break the line
    /// or drive the terminal: control characters are escaped, and the middle of what is very long is left out.
    pub fn line(&self) -> String {
        let mut line = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            source = cause.source();
        }
        shortened(&plain(&line))
    }
}

/// The longest line of a message, characters.
const LONGEST: usize = 4000;

/// `text` without characters that break or rewrite a line.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        // Marks that turn the direction of writing would show another text than is there.
        let breaks =
            c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if breaks { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

/// `text` with its middle left out when it is longer than [`LONGEST`].
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST {
        return text.to_owned();
    }
    let (head, tail) = (LONGEST * 3 / 4, LONGEST / 4);
    let first: String = text.chars().take(head).collect();
    let last: String = text.chars().skip(length - tail).collect();
    format!("{first} [{} characters left out] {last}", length - head - tail)
}

impl<F: Fault> From<F> for Error {
    fn from(fault: F) -> Self {
        Error(Box::new(fault))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A fault described on the spot, for the few places where an enum of its own would say nothing more.
#[derive(Debug)]
pub struct Plain {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Plain {
    /// A fault with exit code `exit` and a lower-case `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Plain { exit, message: message.into(), hint: None }
    }

    /// Wrong usage or configuration (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Plain::new(Exit::Usage, message)
    }

    /// The same fault with the next move named.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Plain {}

impl Fault for Plain {
    fn exit(&self) -> Exit {
        self.exit
    }

    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `x.yml`")]
    struct Outer(#[source] std::io::Error);

    impl Fault for Outer {
        fn exit(&self) -> Exit {
            Exit::Usage
        }
    }

    #[test]
    fn sources_follow_on_the_same_line() {
        let error = Error::from(Outer(std::io::Error::other("no space left")));
        assert_eq!(error.line(), "cannot read `x.yml`: no space left");
        assert_eq!(error.exit_code(), Exit::Usage);
    }

    #[test]
    fn what_a_file_says_cannot_break_the_line() {
        let error = Error::from(Plain::usage("no `a\nb\r\u{1b}[2J\t\u{202e}é`"));
        assert_eq!(error.line(), "no `a\\nb\\r\\u{1b}[2J\\t\\u{202e}é`");
        let error = Error::from(Plain::usage(format!("no `{}` in it", "é".repeat(1 << 20))));
        assert!(error.line().starts_with("no `é") && error.line().ends_with("é` in it"), "{error}");
        assert!(error.line().chars().count() < 4100);
    }

    #[test]
    fn plain_carries_its_hint() {
        let error = Error::from(Plain::usage("unknown app `x`").with_hint("known apps: socialNetwork"));
        assert_eq!(error.hint().as_deref(), Some("known apps: socialNetwork"));
    }
}
