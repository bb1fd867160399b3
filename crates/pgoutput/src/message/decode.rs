//! Bytes to messages.

use bytes::Bytes;

use crate::{
    error::{DecodeError, DecodeErrorKind},
    message::{
        Begin, Column, Commit, Delete, Insert, LogicalMessage, Message, OldTuple, Origin, Relation,
        RelationId, Truncate, Type, Update,
    },
    read::Reader,
    tuple::Tuple,
};

/// A column without a name: flags, the name's zero byte, type and modifier.
const COLUMN_BYTES_MIN: usize = 1 + 1 + 4 + 4;

/// Bits of a column's flags: 1 says that the column is part of the replica identity.
const COLUMN_IS_KEY: u8 = 1;

/// Bits of a logical message's flags: 1 says that it belongs to a transaction.
const MESSAGE_IS_TRANSACTIONAL: u8 = 1;

impl Message {
    /// Decodes the data of one [`XLogData`](crate::XLogData).
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one message of protocol version 1.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        const TAG: &str = "a message's tag";
        let mut reader = Reader::new(&data, "pgoutput message");
        let tag = reader.u8(TAG)?;
        match tag {
            b'B' => whole(reader.named("Begin"), Begin::read).map(Self::Begin),
            b'C' => whole(reader.named("Commit"), Commit::read).map(Self::Commit),
            b'O' => whole(reader.named("Origin"), Origin::read).map(Self::Origin),
            b'R' => {
                let own = Bytes::copy_from_slice(&data);
                let mut reader = Reader::new(&own, "Relation");
                reader.u8(TAG)?;
                whole(reader, Relation::read).map(Self::Relation)
            }
            b'Y' => whole(reader.named("Type"), Type::read).map(Self::Type),
            b'I' => whole(reader.named("Insert"), Insert::read).map(Self::Insert),
            b'U' => whole(reader.named("Update"), Update::read).map(Self::Update),
            b'D' => whole(reader.named("Delete"), Delete::read).map(Self::Delete),
            b'T' => whole(reader.named("Truncate"), Truncate::read).map(Self::Truncate),
            b'M' => whole(reader.named("Message"), LogicalMessage::read).map(Self::Logical),
            // Stream Start, Stop, Commit and Abort; Begin Prepare, Prepare, Commit Prepared,
            // Rollback Prepared and Stream Prepare.
            b'S' | b'E' | b'c' | b'A' | b'b' | b'P' | b'K' | b'r' | b'p' => {
                Err(reader.error_at(0, TAG, DecodeErrorKind::UnsupportedMessage { tag }))
            }
            _ => Err(reader.error_at(0, TAG, DecodeErrorKind::UnknownTag { tag })),
        }
    }
}

impl Begin {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            final_lsn: reader.lsn("the final LSN")?,
            commit_time: reader.timestamp("the commit time")?,
            xid: reader.u32("the transaction id")?,
        })
    }
}

impl Commit {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            flags: reader.u8("the flags")?,
            commit_lsn: reader.lsn("the commit LSN")?,
            end_lsn: reader.lsn("the end LSN")?,
            commit_time: reader.timestamp("the commit time")?,
        })
    }
}

impl Origin {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            commit_lsn: reader.lsn("the commit LSN at the origin")?,
            name: reader.string("the origin's name")?,
        })
    }
}

impl RelationId {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u32("a relation's id").map(Self)
    }
}

impl Relation {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: RelationId::read(reader)?,
            namespace: reader.string("the relation's schema")?,
            name: reader.string("the relation's name")?,
            replica_identity: reader.u8("the replica identity")?,
            columns: Column::read_all(reader)?,
        })
    }
}

impl Column {
    fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        let count = reader.count16("the number of columns", COLUMN_BYTES_MIN)?;
        (0..count).map(|_| Self::read(reader)).collect()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            is_key: reader.u8("a column's flags")? & COLUMN_IS_KEY != 0,
            name: reader.string("a column's name")?,
            type_oid: reader.u32("a column's type")?,
            type_modifier: reader.i32("a column's type modifier")?,
        })
    }
}

impl Type {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            type_oid: reader.u32("the type's id")?,
            namespace: reader.string("the type's schema")?,
            name: reader.string("the type's name")?,
        })
    }
}

impl Insert {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let relation = RelationId::read(reader)?;
        read_new_tag(reader)?;
        Ok(Self {
            relation,
            new: Tuple::read(reader)?,
        })
    }
}

impl Update {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const TAG: &str = "the tag 'K', 'O' or 'N'";
        let relation = RelationId::read(reader)?;
        let offset = reader.position();
        let old = match reader.u8(TAG)? {
            b'N' => None,
            b'K' => Some(OldTuple::Key(Tuple::read(reader)?)),
            b'O' => Some(OldTuple::Full(Tuple::read(reader)?)),
            tag => return Err(reader.error_at(offset, TAG, DecodeErrorKind::UnknownTag { tag })),
        };
        if old.is_some() {
            read_new_tag(reader)?;
        }
        Ok(Self {
            relation,
            old,
            new: Tuple::read(reader)?,
        })
    }
}

impl Delete {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const TAG: &str = "the tag 'K' or 'O'";
        let relation = RelationId::read(reader)?;
        let offset = reader.position();
        let old = match reader.u8(TAG)? {
            b'K' => OldTuple::Key(Tuple::read(reader)?),
            b'O' => OldTuple::Full(Tuple::read(reader)?),
            tag => return Err(reader.error_at(offset, TAG, DecodeErrorKind::UnknownTag { tag })),
        };
        Ok(Self { relation, old })
    }
}

impl Truncate {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count32("the number of relations", size_of::<u32>())?;
        let options = reader.u8("the options")?;
        let relations = (0..count)
            .map(|_| RelationId::read(reader))
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { options, relations })
    }
}

impl LogicalMessage {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            transactional: reader.u8("the flags")? & MESSAGE_IS_TRANSACTIONAL != 0,
            lsn: reader.lsn("the message's LSN")?,
            prefix: reader.string("the prefix")?,
            content: reader.sized_shared("the content")?,
        })
    }
}

/// Reads one message and checks that it was all.
fn whole<T>(
    mut reader: Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let message = read(&mut reader)?;
    reader.end()?;
    Ok(message)
}

fn read_new_tag(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    const TAG: &str = "the tag 'N'";
    let offset = reader.position();
    match reader.u8(TAG)? {
        b'N' => Ok(()),
        tag => Err(reader.error_at(offset, TAG, DecodeErrorKind::UnknownTag { tag })),
    }
}
