//! Reads the fields of an answer in their order. A field past the end is an error, never a panic.

use std::io;

/// An answer and how far it has been read.
pub(crate) struct Cursor {
    bytes: Vec<u8>,
    at: usize,
}

impl Cursor {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn bool(&mut self) -> io::Result<bool> {
        Ok(self.take(1)?[0] != 0)
    }

    pub(crate) fn i16(&mut self) -> io::Result<i16> {
        self.number().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        self.number().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> io::Result<i64> {
        self.number().map(i64::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> io::Result<Option<String>> {
        match usize::try_from(self.i16()?) {
            Ok(length) => self.text(length).map(Some),
            Err(_) => Ok(None),
        }
    }

    pub(crate) fn compact_string(&mut self) -> io::Result<Option<String>> {
        match self.varint()?.checked_sub(1) {
            Some(length) => self.text(length).map(Some),
            None => Ok(None),
        }
    }

    /// Reads an array's length and then each item with `read`; null reads as empty.
    pub(crate) fn array<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let length = self.i32()?.max(0);
        (0..length).map(|_| read(self)).collect()
    }

    pub(crate) fn compact_array<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        let length = self.varint()?.saturating_sub(1);
        (0..length).map(|_| read(self)).collect()
    }

    pub(crate) fn skip_tags(&mut self) -> io::Result<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.take(length)?;
        }
        Ok(())
    }

    fn varint(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(io::Error::other("a variable-length number without an end"))
    }

    fn number<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(io::Error::other)
    }

    fn text(&mut self, length: usize) -> io::Result<String> {
        String::from_utf8(self.take(length)?.to_vec()).map_err(io::Error::other)
    }

    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.saturating_add(length));
        self.at = self.at.saturating_add(length);
        taken.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;

    #[test]
    fn reads_what_a_request_writes() {
        let mut request = Request { bytes: Vec::new(), is_flexible: false };
        request.i16(7).string(Some("name")).string(None).array(2);
        request.i32(1).i32(2);
        request.compact_bytes("x".repeat(300).as_bytes()).no_tags();
        let mut cursor = Cursor::new(request.bytes);
        assert_eq!(cursor.i16().expect("a number"), 7);
        assert_eq!(cursor.string().expect("a name").as_deref(), Some("name"));
        assert_eq!(cursor.string().expect("null"), None);
        assert_eq!(cursor.array(Cursor::i32).expect("an array"), [1, 2]);
        let long = cursor.compact_string().expect("a long name");
        assert_eq!(long.map(|text| text.len()), Some(300));
        cursor.skip_tags().expect("no tags");
        assert!(cursor.i16().is_err());
    }
}
