//! Passwords and tokens: a value of this type cannot be printed by accident, only by [`Secret::expose`].

use std::fmt;

use rand::RngExt;

/// Letters and digits that are not mistaken for each other.
const LETTERS: &[u8] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Of 57 letters each: about 140 bits.
const LENGTH: usize = 24;

/// A password or a token. `Debug` and `Display` hide it; nothing serialises it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new random one, from the system's generator.
    pub fn generate() -> Self {
        let mut random = rand::rng();
        Secret((0..LENGTH).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect())
    }

    /// The value itself, for whoever has to hand it on.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Secret(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Secret(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_only_when_asked() {
        let secret = Secret::generate();
        assert_eq!(secret.expose().len(), LENGTH);
        assert_ne!(secret, Secret::generate());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "(hidden) (hidden) Some((hidden))");
    }
}
