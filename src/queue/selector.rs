//! Which lanes a pause or a change of route is about, and which of many such rows cover a
//! lane (pure).
//!
//! A [`Selector`] names a tenant, a stream of it, a mailbox provider, a route, a lane, or
//! several of them, and covers every lane that fits all it names. In the database it is two
//! columns: `scope`, a letter for each part in the order T S P R L, and `key`, the parts'
//! numbers (of a route: its name) with `/` between them. A text that is none is ignored by
//! readers, so that a newer program may know more of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::lane::Lane;
use crate::domain::ids::{LaneId, PoolId, StreamId, TenantId};

/// What all must fit. Without any part it covers everything; the database holds none such.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Only lanes of this tenant.
    pub tenant: Option<TenantId>,
    /// Only lanes of this stream.
    pub stream: Option<StreamId>,
    /// Only lanes to this mailbox provider.
    pub pool: Option<PoolId>,
    /// Only lanes that leave by this route now.
    pub route: Option<Arc<str>>,
    /// Only this lane.
    pub lane: Option<LaneId>,
}

/// The parts a selector names, most telling first: of two that cover a lane, the one with
/// the greater shape is the more special.
type Shape = u8;
const LANE: Shape = 16;
const STREAM: Shape = 8;
const TENANT: Shape = 4;
const POOL: Shape = 2;
const ROUTE: Shape = 1;

impl Selector {
    /// Whether the lane, which leaves by `route`, fits all that is named.
    pub fn covers(&self, lane: &Lane, route: &Arc<str>) -> bool {
        *self == Self::of(self.shape(), lane, route)
    }

    /// The letters of what is named.
    pub fn scope(&self) -> String {
        self.parts().map(|(letter, _)| letter).collect()
    }

    /// The numbers and the name of what is named.
    pub fn key(&self) -> String {
        self.parts().map(|(_, part)| part).collect::<Vec<_>>().join("/")
    }

    /// Reads both columns; `None` when they do not belong together.
    pub fn read(scope: &str, key: &str) -> Option<Self> {
        let mut selector = Self::default();
        let mut parts = key.split('/');
        for letter in scope.chars() {
            let part = parts.next()?;
            match letter {
                'T' => selector.tenant = Some(TenantId::new(part.parse().ok()?)),
                'S' => selector.stream = Some(StreamId::new(part.parse().ok()?)),
                'P' => selector.pool = Some(PoolId::new(part.parse().ok()?)),
                'R' => selector.route = Some(part.into()),
                'L' => selector.lane = Some(LaneId::new(part.parse().ok()?)),
                _ => return None,
            }
        }
        parts.next().is_none().then_some(selector)
    }

    fn parts(&self) -> impl Iterator<Item = (char, String)> {
        [
            ('T', self.tenant.map(|id| id.get().to_string())),
            ('S', self.stream.map(|id| id.get().to_string())),
            ('P', self.pool.map(|id| id.get().to_string())),
            ('R', self.route.as_deref().map(str::to_owned)),
            ('L', self.lane.map(|id| id.get().to_string())),
        ]
        .into_iter()
        .filter_map(|(letter, part)| Some((letter, part?)))
    }

    fn shape(&self) -> Shape {
        let bit = |named: bool, bit| if named { bit } else { 0 };
        bit(self.lane.is_some(), LANE)
            | bit(self.stream.is_some(), STREAM)
            | bit(self.tenant.is_some(), TENANT)
            | bit(self.pool.is_some(), POOL)
            | bit(self.route.is_some(), ROUTE)
    }

    /// The one selector of this shape that covers the lane.
    fn of(shape: Shape, lane: &Lane, route: &Arc<str>) -> Self {
        let names = |bit| shape & bit != 0;
        Self {
            tenant: names(TENANT).then_some(lane.tenant),
            stream: names(STREAM).then_some(lane.stream),
            pool: names(POOL).then_some(lane.pool),
            route: names(ROUTE).then(|| Arc::clone(route)),
            lane: names(LANE).then_some(lane.id),
        }
    }
}

/// Values by selector. Looking one up costs one probe for each shape in use, however many
/// there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected<V> {
    values: HashMap<Selector, V>,
    shapes: Vec<Shape>,
}

impl<V> Default for Selected<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), shapes: Vec::new() }
    }
}

impl<V> Selected<V> {
    /// What the most special selector that covers the lane holds.
    pub fn find(&self, lane: &Lane, route: &Arc<str>) -> Option<&V> {
        self.shapes.iter().find_map(|shape| self.values.get(&Selector::of(*shape, lane, route)))
    }
}

impl<V> FromIterator<(Selector, V)> for Selected<V> {
    fn from_iter<I: IntoIterator<Item = (Selector, V)>>(all: I) -> Self {
        let values: HashMap<_, _> = all.into_iter().collect();
        let mut shapes: Vec<Shape> = values.keys().map(Selector::shape).collect();
        shapes.sort_unstable_by(|a, b| b.cmp(a));
        shapes.dedup();
        Self { values, shapes }
    }
}

/// What is paused.
pub type Blocks = Selected<()>;

/// What takes another route for a while: its name.
pub type Detours = Selected<Arc<str>>;

impl Blocks {
    /// Whether the lane, which leaves by `route`, must be left alone.
    pub fn cover(&self, lane: &Lane, route: &Arc<str>) -> bool {
        self.find(lane, route).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::MailboxProvider;
    use crate::message::time_zone::TimeZone;
    use proptest::prelude::*;

    fn lane() -> Lane {
        Lane {
            id: LaneId::new(9),
            tenant: TenantId::new(7),
            tenant_name: "shop".into(),
            time_zone: TimeZone::default(),
            weight: 100,
            pool: PoolId::new(2),
            mailbox_provider: MailboxProvider::new("google"),
            priority: 3,
            stream: StreamId::new(5),
            stream_name: "spring".into(),
        }
    }

    #[test]
    fn a_selector_covers_what_fits_all_it_names() {
        let route: Arc<str> = "direct".into();
        let blocks = |scope: &str, key: &str| -> Blocks {
            [(Selector::read(scope, key).expect(scope), ())].into_iter().collect()
        };
        for (scope, key) in [
            ("T", "7"),
            ("TS", "7/5"),
            ("P", "2"),
            ("TP", "7/2"),
            ("R", "direct"),
            ("TR", "7/direct"),
            ("PR", "2/direct"),
            ("TSPR", "7/5/2/direct"),
            ("L", "9"),
        ] {
            assert!(blocks(scope, key).cover(&lane(), &route), "{scope} {key}");
        }
        for (scope, key) in [
            ("T", "8"),
            ("TS", "8/5"),
            ("TP", "7/3"),
            ("R", "relay"),
            ("PR", "2/relay"),
            ("L", "7"),
        ] {
            assert!(!blocks(scope, key).cover(&lane(), &route), "{scope} {key}");
        }
        assert!(!Blocks::default().cover(&lane(), &route));
        for (scope, key) in [("T", ""), ("T", "x"), ("TP", "7"), ("T", "7/2"), ("X", "7")] {
            assert_eq!(Selector::read(scope, key), None, "{scope} {key}");
        }
    }

    #[test]
    fn the_most_special_wins() {
        let rows = [
            ("P", "2", "a"),
            ("T", "7", "b"),
            ("TS", "7/5", "c"),
            ("TP", "7/2", "d"),
            ("L", "8", "e"),
        ];
        let of = |rows: &[(&str, &str, &str)]| -> Detours {
            let read =
                |(s, k, r): &(&str, &str, &str)| Some((Selector::read(s, k)?, Arc::from(*r)));
            rows.iter().filter_map(read).collect()
        };
        let taken = |n: usize| of(&rows[..n]).find(&lane(), &"direct".into()).cloned();
        assert_eq!(taken(1).as_deref(), Some("a"));
        assert_eq!(taken(2).as_deref(), Some("b"));
        assert_eq!(taken(5).as_deref(), Some("c"));
    }

    proptest! {
        #[test]
        fn columns_read_back(
            tenant: Option<i64>, stream: Option<i32>, pool: Option<i16>,
            route in proptest::option::of("[a-z0-9_-]{1,20}"), lane: Option<i32>,
        ) {
            let selector = Selector {
                tenant: tenant.map(TenantId::new),
                stream: stream.map(StreamId::new),
                pool: pool.map(PoolId::new),
                route: route.map(Arc::from),
                lane: lane.map(LaneId::new),
            };
            if selector != Selector::default() {
                prop_assert_eq!(Selector::read(&selector.scope(), &selector.key()), Some(selector));
            }
        }
    }
}
