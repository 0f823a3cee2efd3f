//! Sixteen bytes at a time: where in a block of text the bytes are that give JSON its structure.

/// Bit `i` is set when byte `i` of the block has the property.
pub(super) type Mask = u64;

/// What a scan over JSON text needs to know about 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// `"`
    pub(super) quotes: Mask,
    /// `\`
    pub(super) backslashes: Mask,
    /// `{` and `[`
    pub(super) opens: Mask,
    /// `}` and `]`
    pub(super) closes: Mask,
    /// Tells `{` from `[` and `}` from `]`; says nothing about other bytes.
    pub(super) curly: Mask,
}

impl Block {
    /// Looks at 64 bytes.
    #[inline(always)]
    pub(super) fn of(bytes: &[u8; 64]) -> Block {
        let mut block = Block::default();
        for part in 0..4 {
            let sixteen = sixteen(bytes, part * 16);
            let [quotes, backslashes, opens, closes, curly] = lanes::brackets(sixteen);
            block.quotes |= quotes << (part * 16);
            block.backslashes |= backslashes << (part * 16);
            block.opens |= opens << (part * 16);
            block.closes |= closes << (part * 16);
            block.curly |= curly << (part * 16);
        }
        block
    }
}

#[inline(always)]
fn sixteen(bytes: &[u8; 64], at: usize) -> [u8; 16] {
    let mut sixteen = [0; 16];
    sixteen.copy_from_slice(&bytes[at..at + 16]);
    sixteen
}

/// Index of the first `"` or `\` in `bytes`.
#[inline(always)]
pub(super) fn find_quote(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = bytes.get(at..at + 16) {
        let mut sixteen = [0; 16];
        sixteen.copy_from_slice(block);
        let hits = lanes::quotes(sixteen);
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize);
        }
        at += 16;
        if at == 64 {
            // A long string: the wider search pays now.
            return memchr::memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found);
        }
    }
    bytes[at..].iter().position(|&byte| byte == b'"' || byte == b'\\').map(|found| at + found)
}

mod lanes {
    use wide::u8x16;

    /// Quotes, backslashes, opening and closing brackets, and which of these are curly.
    #[inline(always)]
    pub(super) fn brackets(bytes: [u8; 16]) -> [u64; 5] {
        let bytes = u8x16::new(bytes);
        // `[` and `]` differ from `{` and `}` in this one bit.
        let folded = bytes | u8x16::splat(0x20);
        let mask = |bytes: u8x16, byte| u64::from(bytes.simd_eq(u8x16::splat(byte)).to_bitmask());
        // That bit, moved to the top of its byte, where a mask is taken from.
        let doubled = bytes + bytes;
        let curly = u64::from((doubled + doubled).to_bitmask());
        [mask(bytes, b'"'), mask(bytes, b'\\'), mask(folded, b'{'), mask(folded, b'}'), curly]
    }

    /// Quotes and backslashes together.
    #[inline(always)]
    pub(super) fn quotes(bytes: [u8; 16]) -> u32 {
        let bytes = u8x16::new(bytes);
        (bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'))).to_bitmask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    fn naive(bytes: &[u8; 64], wanted: &[u8]) -> Mask {
        bytes.iter().enumerate().filter(|(_, b)| wanted.contains(b)).fold(0, |mask, (i, _)| mask | 1 << i)
    }

    proptest! {
        #[test]
        fn a_block_is_what_a_loop_sees(
            picks in prop::collection::vec(any::<prop::sample::Index>(), 64),
            noise in prop::collection::vec(any::<u8>(), 64),
        ) {
            let alphabet = b"\"\\{}[]:,ab\x7f\xfb\xdb\xdd\xfd\0";
            let mut bytes = [0; 64];
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = if noise[i] < 200 { alphabet[picks[i].index(alphabet.len())] } else { noise[i] };
            }
            let block = Block::of(&bytes);
            assert_eq!(block.quotes, naive(&bytes, b"\""));
            assert_eq!(block.backslashes, naive(&bytes, b"\\"));
            assert_eq!(block.opens, naive(&bytes, b"{["));
            assert_eq!(block.closes, naive(&bytes, b"}]"));
            assert_eq!(block.curly & block.opens, naive(&bytes, b"{"));
            assert_eq!(block.curly & block.closes, naive(&bytes, b"}"));
        }

        #[test]
        fn the_first_quote_is_found_wherever_it_is(before in 0_usize..200, after in 0_usize..40, quote: bool) {
            let mut text = vec![b'x'; before];
            assert_eq!(find_quote(&text), None);
            text.push(if quote { b'"' } else { b'\\' });
            text.extend(std::iter::repeat_n(b'"', after));
            assert_eq!(find_quote(&text), Some(before));
        }
    }
}
