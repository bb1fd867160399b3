//! Messages to bytes, for those who play the server.

use bytes::{BufMut, BytesMut};

use crate::{
    message::{
        Begin, Commit, Delete, Insert, LogicalMessage, Message, OldTuple, Origin, Relation,
        Truncate, Type, Update,
    },
    write::{count16, put_sized, put_string},
};

impl Message {
    /// Appends the message, as [`Message::decode`] reads it.
    ///
    /// # Panics
    ///
    /// When the format can't express it: a name or prefix with a zero byte in it, more than 32,767
    /// columns, content of 2 GiB and more.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Begin(begin) => begin.write(out),
            Self::Commit(commit) => commit.write(out),
            Self::Origin(origin) => origin.write(out),
            Self::Relation(relation) => relation.write(out),
            Self::Type(type_) => type_.write(out),
            Self::Insert(insert) => insert.write(out),
            Self::Update(update) => update.write(out),
            Self::Delete(delete) => delete.write(out),
            Self::Truncate(truncate) => truncate.write(out),
            Self::Logical(message) => message.write(out),
        }
    }
}

impl Begin {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'B');
        out.put_u64(self.final_lsn.as_u64());
        out.put_i64(self.commit_time.as_micros());
        out.put_u32(self.xid);
    }
}

impl Commit {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'C');
        out.put_u8(self.flags);
        out.put_u64(self.commit_lsn.as_u64());
        out.put_u64(self.end_lsn.as_u64());
        out.put_i64(self.commit_time.as_micros());
    }
}

impl Origin {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'O');
        out.put_u64(self.commit_lsn.as_u64());
        put_string(out, &self.name);
    }
}

impl Relation {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'R');
        out.put_u32(self.id.0);
        put_string(out, &self.namespace);
        put_string(out, &self.name);
        out.put_u8(self.replica_identity);
        out.put_i16(count16(self.columns.len()));
        for column in &self.columns {
            out.put_u8(u8::from(column.is_key));
            put_string(out, &column.name);
            out.put_u32(column.type_oid);
            out.put_i32(column.type_modifier);
        }
    }
}

impl Type {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'Y');
        out.put_u32(self.type_oid);
        put_string(out, &self.namespace);
        put_string(out, &self.name);
    }
}

impl Insert {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'I');
        out.put_u32(self.relation.0);
        out.put_u8(b'N');
        self.new.write(out);
    }
}

impl Update {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'U');
        out.put_u32(self.relation.0);
        if let Some(old) = &self.old {
            old.write(out);
        }
        out.put_u8(b'N');
        self.new.write(out);
    }
}

impl Delete {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'D');
        out.put_u32(self.relation.0);
        self.old.write(out);
    }
}

impl OldTuple {
    fn write(&self, out: &mut BytesMut) {
        let (tag, tuple) = match self {
            Self::Key(tuple) => (b'K', tuple),
            Self::Full(tuple) => (b'O', tuple),
        };
        out.put_u8(tag);
        tuple.write(out);
    }
}

impl Truncate {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'T');
        let count = i32::try_from(self.relations.len()).expect("relation counts have 31 bits");
        out.put_i32(count);
        out.put_u8(self.options);
        for relation in &self.relations {
            out.put_u32(relation.0);
        }
    }
}

impl LogicalMessage {
    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'M');
        out.put_u8(u8::from(self.transactional));
        out.put_u64(self.lsn.as_u64());
        put_string(out, &self.prefix);
        put_sized(out, &self.content);
    }
}
