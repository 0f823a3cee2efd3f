//! Which spans and tags of an application make an observation.

/// A tag of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `operationName` of the span.
    pub operation: &'static str,
    /// Key of the tag.
    pub tag: &'static str,
}

/// Where an application's traces keep the parts of an observation. Stamps are milliseconds since the epoch,
/// durations milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The operation whose start is the request's; the last span of that name in a trace counts.
    pub start: &'static str,
    /// The post's id, a decimal integer.
    pub post: Place,
    /// When the post was durable at the origin.
    pub written: Place,
    /// When the notification was queued.
    pub queued: Place,
    /// When a worker at the replica received it.
    pub received: Place,
    /// When the worker was about to read the post, behind the barrier if there is one.
    pub read: Place,
    /// How long the barrier took.
    pub barrier: Place,
    /// Whether the post was found.
    pub found: Place,
    /// How long the read took.
    pub replica_read: Place,
    /// Size of the notification, bytes.
    pub notification_size: Place,
}

/// A part of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Field {
    /// Start of the request.
    Start,
    /// Post id.
    Post,
    /// Post durable at the origin.
    Written,
    /// Notification queued.
    Queued,
    /// Notification received.
    Received,
    /// About to read at the replica.
    Read,
    /// Barrier duration.
    Barrier,
    /// Post found.
    Found,
    /// Replica read duration.
    ReplicaRead,
    /// Notification size.
    NotificationSize,
}

impl Field {
    /// Number of fields.
    pub const COUNT: usize = 10;

    /// All fields, in the order in which they come to be.
    pub const ALL: [Field; Field::COUNT] = [
        Field::Start,
        Field::Post,
        Field::Written,
        Field::Queued,
        Field::Received,
        Field::Read,
        Field::Barrier,
        Field::Found,
        Field::ReplicaRead,
        Field::NotificationSize,
    ];
}

impl Shape {
    /// The operation and the tag of `field`; the start has no tag.
    pub fn place(&self, field: Field) -> (&'static str, Option<&'static str>) {
        let place = match field {
            Field::Start => return (self.start, None),
            Field::Post => self.post,
            Field::Written => self.written,
            Field::Queued => self.queued,
            Field::Received => self.received,
            Field::Read => self.read,
            Field::Barrier => self.barrier,
            Field::Found => self.found,
            Field::ReplicaRead => self.replica_read,
            Field::NotificationSize => self.notification_size,
        };
        (place.operation, Some(place.tag))
    }
}

/// A shape made ready for matching: each operation once, with its tags.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    pub(super) operations: Vec<Operation>,
}

/// One operation of a [`Matcher`].
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// Its start is the request's start.
    pub(super) start: bool,
    pub(super) tags: Vec<(&'static str, Field)>,
}

impl Matcher {
    pub(super) fn new(shape: &Shape) -> Self {
        let mut operations: Vec<Operation> = Vec::new();
        for field in Field::ALL {
            let (name, tag) = shape.place(field);
            let known = operations.iter().position(|operation| operation.name == name);
            let index = known.unwrap_or_else(|| {
                operations.push(Operation { name, start: false, tags: Vec::new() });
                operations.len() - 1
            });
            match tag {
                None => operations[index].start = true,
                Some(tag) => operations[index].tags.push((tag, field)),
            }
        }
        Matcher { operations }
    }
}
