//! Owns the walk over a response's bytes before it is decoded: every length and count is compared with what is there.
//! Must never allocate. `kafka-protocol` reserves room for as many elements as an array says that it has, and a process does not
//! survive a room of terabytes; after this walk each of them is known to be there.

use kafka_protocol::messages::ApiKey;

/// What stands in a response.
#[derive(Clone, Copy)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A text or bytes, perhaps none; the length takes two bytes if the version is not flexible.
    Text,
    /// The same with a length of four bytes.
    Blob,
    /// Numbers of so many bytes each.
    Numbers(usize),
    /// Texts.
    Texts,
    /// Structures.
    Array(&'static Shape),
    /// One structure.
    One(&'static Shape),
}

/// A field, and the versions that have it.
struct Field(Kind, i16, i16);

/// A structure: its fields in order, and the tagged ones that the decoder knows.
struct Shape {
    fields: &'static [Field],
    tags: &'static [(u32, Kind)],
}

const fn always(kind: Kind) -> Field {
    Field(kind, 0, i16::MAX)
}

const fn since(version: i16, kind: Kind) -> Field {
    Field(kind, version, i16::MAX)
}

const fn shape(fields: &'static [Field]) -> Shape {
    Shape { fields, tags: &[] }
}

use Kind::{Array, Blob, Fixed, Numbers, One, Text, Texts};

// The names are those of the protocol's own definitions (kafka/clients/src/main/resources/common/message).

static API_VERSION: Shape = shape(&[always(Fixed(2 + 2 + 2))]);
static FEATURE: Shape = shape(&[always(Text), always(Fixed(2 + 2))]);
static API_VERSIONS: Shape = Shape {
    fields: &[always(Fixed(2)), always(Array(&API_VERSION)), since(1, Fixed(4))],
    tags: &[(0, Array(&FEATURE)), (1, Fixed(8)), (2, Array(&FEATURE)), (3, Fixed(1))],
};

static SASL_HANDSHAKE: Shape = shape(&[always(Fixed(2)), always(Texts)]);
static SASL_AUTHENTICATE: Shape = shape(&[always(Fixed(2)), always(Text), always(Blob), since(1, Fixed(8))]);

static METADATA_BROKER: Shape = shape(&[always(Fixed(4)), always(Text), always(Fixed(4)), always(Text)]);
static METADATA_PARTITION: Shape =
    shape(&[always(Fixed(2 + 4 + 4 + 4)), always(Numbers(4)), always(Numbers(4)), always(Numbers(4))]);
static METADATA_TOPIC: Shape = shape(&[
    always(Fixed(2)),
    always(Text),
    since(10, Fixed(16)),
    always(Fixed(1)),
    always(Array(&METADATA_PARTITION)),
    always(Fixed(4)),
]);
static METADATA: Shape = shape(&[
    always(Fixed(4)),
    always(Array(&METADATA_BROKER)),
    always(Text),
    always(Fixed(4)),
    always(Array(&METADATA_TOPIC)),
    Field(Fixed(4), 8, 10),
    since(13, Fixed(2)),
]);

static INIT_PRODUCER_ID: Shape = shape(&[always(Fixed(4 + 2 + 8 + 2)), since(6, Fixed(8 + 2))]);

static RECORD_ERROR: Shape = shape(&[always(Fixed(4)), always(Text)]);
static CURRENT_LEADER: Shape = shape(&[always(Fixed(4 + 4))]);
static PRODUCE_PARTITION: Shape = Shape {
    fields: &[always(Fixed(4 + 2 + 8 + 8 + 8)), always(Array(&RECORD_ERROR)), always(Text)],
    tags: &[(0, One(&CURRENT_LEADER))],
};
static PRODUCE_TOPIC: Shape =
    shape(&[Field(Text, 0, 12), since(13, Fixed(16)), always(Array(&PRODUCE_PARTITION))]);
static NODE_ENDPOINT: Shape = shape(&[always(Fixed(4)), always(Text), always(Fixed(4)), always(Text)]);
static PRODUCE: Shape =
    Shape { fields: &[always(Array(&PRODUCE_TOPIC)), always(Fixed(4))], tags: &[(0, Array(&NODE_ENDPOINT))] };

/// Returns a response's shape, and the first version that is flexible (KIP-482). The versions are those of `versions`.
const fn shape_of(api: ApiKey) -> Option<(&'static Shape, i16)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other API is asked")]
    match api {
        ApiKey::ApiVersions => Some((&API_VERSIONS, 3)),
        ApiKey::SaslHandshake => Some((&SASL_HANDSHAKE, i16::MAX)),
        ApiKey::SaslAuthenticate => Some((&SASL_AUTHENTICATE, 2)),
        ApiKey::Metadata => Some((&METADATA, 9)),
        ApiKey::InitProducerId => Some((&INIT_PRODUCER_ID, 2)),
        ApiKey::Produce => Some((&PRODUCE, 9)),
        _ => None,
    }
}

/// Why a response cannot be what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// A length or count goes beyond the end.
    #[error("it ends before its lengths do")]
    Cut,
    /// A length below zero that does not mean none.
    #[error("a length is below zero")]
    Negative,
    /// No API that is asked here.
    #[error("its shape is not known")]
    Unknown,
}

/// Walks over a response from behind its correlation id to its end; returns how many bytes of it the header's tags take.
pub(super) fn scan(api: ApiKey, version: i16, has_tags: bool, bytes: &[u8]) -> Result<usize, Broken> {
    let (shape, flexible_since) = shape_of(api).ok_or(Broken::Unknown)?;
    let mut walk = Walk { rest: bytes, version, is_flexible: version >= flexible_since };
    if has_tags {
        walk.tags(&[])?;
    }
    let header = bytes.len() - walk.rest.len();
    walk.structure(shape)?;
    Ok(header)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    is_flexible: bool,
}

impl Walk<'_> {
    fn structure(&mut self, shape: &Shape) -> Result<(), Broken> {
        for Field(kind, since, until) in shape.fields {
            if (*since..=*until).contains(&self.version) {
                self.field(*kind)?;
            }
        }
        if self.is_flexible { self.tags(shape.tags) } else { Ok(()) }
    }

    fn field(&mut self, kind: Kind) -> Result<(), Broken> {
        match kind {
            Kind::Fixed(bytes) => self.skip(bytes),
            Kind::Text => self.text(),
            Kind::Blob => {
                let bytes = if self.is_flexible { self.compact() } else { self.length32() }?;
                self.skip(bytes)
            }
            Kind::Numbers(each) => {
                let count = self.count()?;
                self.skip(count.checked_mul(each).ok_or(Broken::Cut)?)
            }
            Kind::Texts => {
                for _ in 0..self.count()? {
                    self.text()?;
                }
                Ok(())
            }
            Kind::Array(shape) => {
                // Each has a byte at least, so that a false count ends with the bytes.
                for _ in 0..self.count()? {
                    self.structure(shape)?;
                }
                Ok(())
            }
            Kind::One(shape) => self.structure(shape),
        }
    }

    fn tags(&mut self, known: &[(u32, Kind)]) -> Result<(), Broken> {
        for _ in 0..self.varint()? {
            let (tag, bytes) = (self.varint()?, self.varint()?);
            // The decoder reads what it knows by its shape, whatever length is written before it.
            match known.iter().find(|(number, _)| *number == tag) {
                Some((_, kind)) => self.field(*kind)?,
                None => self.skip(size(bytes))?,
            }
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), Broken> {
        let bytes = if self.is_flexible { self.compact() } else { self.length16() }?;
        self.skip(bytes)
    }

    fn count(&mut self) -> Result<usize, Broken> {
        if self.is_flexible { self.compact() } else { self.length32() }
    }

    /// A length plus one; zero is none.
    fn compact(&mut self) -> Result<usize, Broken> {
        Ok(size(self.varint()?.saturating_sub(1)))
    }

    fn length16(&mut self) -> Result<usize, Broken> {
        let length = i16::from_be_bytes(self.take()?);
        length_of(length.into())
    }

    fn length32(&mut self) -> Result<usize, Broken> {
        length_of(i32::from_be_bytes(self.take()?))
    }

    /// Reads as the decoder does: five bytes at most, what goes beyond 32 bits is lost.
    fn varint(&mut self) -> Result<u32, Broken> {
        let mut value = 0;
        for place in 0..5 {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << (place * 7);
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Broken::Cut)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Broken> {
        self.rest = self.rest.get(bytes..).ok_or(Broken::Cut)?;
        Ok(())
    }
}

fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn length_of(length: i32) -> Result<usize, Broken> {
    match length {
        -1 => Ok(0),
        length => usize::try_from(length).map_err(|_below_zero| Broken::Negative),
    }
}
