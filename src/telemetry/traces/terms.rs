//! Which traces are kept (pure).

use crate::config::Traces;
use crate::domain::ids::DeliveryId;
use crate::domain::trace::{Context, Notes, lot};

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    ratio: f64,
    trouble_ratio: f64,
    follow_caller: bool,
}

/// How a delivery went so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Taken at the first attempt.
    Smooth,
    /// This attempt or one before it failed, was deferred or is in doubt.
    Troubled,
}

impl Terms {
    /// As configured.
    pub fn new(settings: &Traces) -> Self {
        Self {
            ratio: settings.ratio,
            trouble_ratio: settings.trouble_ratio,
            follow_caller: settings.follow_caller,
        }
    }

    /// Whether a request of this trace is kept that made so many deliveries: the more it made,
    /// the likelier one of them is kept, which then has its root.
    pub fn keep_request(&self, context: &Context, deliveries: u64) -> bool {
        match context.caller.filter(|_| self.follow_caller) {
            Some(said) => said,
            None => context.lot() < self.ratio * deliveries.max(1) as f64,
        }
    }

    /// Whether a request is kept that failed.
    pub fn keep_failed_request(&self, context: &Context) -> bool {
        self.keep_request(context, 1) || context.lot() < self.trouble_ratio
    }

    /// Whether an attempt of a delivery is kept. The only delivery of a message goes by the
    /// message's lot, so that it is kept when its request is; of many each has its own, also
    /// where the caller wants all: a campaign of a million is no trace that anybody can read.
    pub fn keep_attempt(
        &self,
        context: &Context,
        notes: &Notes,
        delivery: DeliveryId,
        course: Course,
    ) -> bool {
        let (lot, head) = if notes.many {
            let lot = lot(delivery);
            let unwanted = self.follow_caller && context.caller == Some(false);
            (lot, !unwanted && lot < self.ratio)
        } else {
            (context.lot(), self.keep_request(context, 1))
        };
        head || (course == Course::Troubled && lot < self.trouble_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::MessageId;

    fn terms(ratio: f64, trouble_ratio: f64) -> Terms {
        Terms { ratio, trouble_ratio, follow_caller: true }
    }

    fn context(id: i64) -> Context {
        Context::of(MessageId::new(id), None)
    }

    #[test]
    fn a_single_delivery_is_kept_when_its_request_is() {
        let terms = terms(0.2, 0.5);
        let mut kept = [0; 2];
        for id in 0..2_000 {
            let (context, delivery) = (context(id), DeliveryId::new(id + 1));
            let notes = Notes::default();
            let keeps = |course| terms.keep_attempt(&context, &notes, delivery, course);
            assert_eq!(keeps(Course::Smooth), terms.keep_request(&context, 1));
            assert!(!keeps(Course::Smooth) || keeps(Course::Troubled), "trouble keeps more");
            kept[0] += usize::from(keeps(Course::Smooth));
            kept[1] += usize::from(keeps(Course::Troubled));
        }
        assert!((320..480).contains(&kept[0]) && (900..1_100).contains(&kept[1]), "{kept:?}");
    }

    #[test]
    fn of_many_deliveries_each_is_drawn_and_the_request_is_there() {
        let terms = terms(0.01, 0.01);
        let caller = Some(true);
        let context = Context { caller, ..context(5) };
        let mut notes = Notes::new(false);
        notes.many = true;
        let keeps = |id| terms.keep_attempt(&context, &notes, DeliveryId::new(id), Course::Smooth);
        let kept = (0..100_000).filter(|id| keeps(*id)).count();
        assert!((800..1_200).contains(&kept), "{kept}");
        assert!(terms.keep_request(&Context { caller: None, ..context }, 1_000));
    }

    #[test]
    fn a_caller_is_followed_where_that_is_wanted() {
        let said = |caller| Context { caller, ..context(1) };
        let all = terms(1.0, 1.0);
        assert!(!all.keep_request(&said(Some(false)), 1));
        let none = terms(0.0, 0.0);
        assert!(none.keep_request(&said(Some(true)), 1) && !none.keep_request(&said(None), 1));
        let own = Terms { follow_caller: false, ..none };
        assert!(!own.keep_request(&said(Some(true)), 1));
        // Trouble is kept also where the caller keeps nothing.
        let (notes, delivery) = (Notes::default(), DeliveryId::new(1));
        assert!(all.keep_attempt(&said(Some(false)), &notes, delivery, Course::Troubled));
    }
}
