//! A shop that takes orders: what its transactions would write.

use serde_json::json;

/// Orders that are under way at a time: a handful, so that each is seen again soon.
const OPEN: usize = 5;

/// The transaction that is rolled back first: soon enough to be seen.
const FIRST_ROLLBACK: u32 = 3;

/// One transaction of so many is rolled back.
const ROLLBACK_EVERY: u32 = 11;

const CUSTOMERS: [&str; 6] = ["ada", "barbara", "edsger", "grace", "leslie", "tony"];

/// Orders in all their states.
pub(super) struct Shop {
    random: fastrand::Rng,
    orders: Vec<Order>,
    last_number: u32,
    transactions: u32,
}

/// One transaction: an order changes, and events tell of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub order: String,
    pub status: &'static str,
    pub total: String,
    pub events: Vec<Event>,
    /// Otherwise it is rolled back, and has never been.
    pub commits: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub kind: &'static str,
    /// JSON text.
    pub payload: String,
}

#[derive(Clone)]
struct Order {
    number: u32,
    customer: &'static str,
    cents: u32,
    status: Status,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    New,
    Placed,
    Paid,
    Shipped,
    Cancelled,
}

impl Shop {
    /// One seed makes one history. Numbers go on from `last_number`.
    pub(super) fn new(seed: u64, last_number: u32) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self {
            random,
            orders: Vec::new(),
            last_number,
            transactions: 0,
        }
    }

    /// What happens next.
    pub(super) fn next(&mut self) -> Transaction {
        let index = self.choose();
        let mut order = self.orders[index].clone();
        order.status = self.advance(order.status);
        let transaction = Transaction {
            order: order.name(),
            status: order.status.name(),
            total: order.total(),
            events: order.events(),
            commits: self.transactions % ROLLBACK_EVERY != FIRST_ROLLBACK,
        };
        self.transactions = self.transactions.wrapping_add(1);
        if transaction.commits {
            self.orders[index] = order;
        }
        transaction
    }

    /// An order that is not finished; a new one in the place of each that is.
    fn choose(&mut self) -> usize {
        let index = self.random.usize(..OPEN);
        if index >= self.orders.len() {
            let order = self.order();
            self.orders.push(order);
            return self.orders.len() - 1;
        }
        if matches!(
            self.orders[index].status,
            Status::Shipped | Status::Cancelled
        ) {
            self.orders[index] = self.order();
        }
        index
    }

    fn order(&mut self) -> Order {
        self.last_number = self.last_number.wrapping_add(1);
        Order {
            number: self.last_number,
            customer: CUSTOMERS[self.random.usize(..CUSTOMERS.len())],
            cents: self.random.u32(500..25_000),
            status: Status::New,
        }
    }

    fn advance(&mut self, status: Status) -> Status {
        match status {
            Status::New => Status::Placed,
            Status::Placed if self.random.u8(..8) == 0 => Status::Cancelled,
            Status::Placed => Status::Paid,
            Status::Paid | Status::Shipped => Status::Shipped,
            Status::Cancelled => Status::Cancelled,
        }
    }
}

impl Order {
    fn name(&self) -> String {
        format!("order-{}", self.number)
    }

    fn total(&self) -> String {
        format!("{}.{:02}", self.cents / 100, self.cents % 100)
    }

    /// Of the change to its status.
    fn events(&self) -> Vec<Event> {
        let (order, total) = (self.name(), self.total());
        let event = |kind, payload: serde_json::Value| Event {
            kind,
            payload: payload.to_string(),
        };
        match self.status {
            Status::New | Status::Placed => {
                let payload = json!({"order": order, "customer": self.customer, "total": total});
                vec![event("OrderPlaced", payload)]
            }
            Status::Paid => {
                let invoice = format!("invoice-{}", self.number);
                let paid = json!({"order": order, "total": total, "method": "card"});
                let issued = json!({"order": order, "invoice": invoice});
                vec![event("OrderPaid", paid), event("InvoiceIssued", issued)]
            }
            Status::Shipped => {
                let payload = json!({"order": order, "parcels": 1 + self.cents / 10_000});
                vec![event("OrderShipped", payload)]
            }
            Status::Cancelled => {
                let payload = json!({"order": order, "reason": "customer"});
                vec![event("OrderCancelled", payload)]
            }
        }
    }
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Placed => "placed",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_order_goes_its_way_and_no_rollback_counts() {
        let allowed = [
            ("", "placed"),
            ("placed", "paid"),
            ("placed", "cancelled"),
            ("paid", "shipped"),
        ];
        let mut shop = Shop::new(1, 1000);
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for _ in 0..1_000 {
            let transaction = shop.next();
            let before = seen.get(&transaction.order).copied().unwrap_or_default();
            let step = (before, transaction.status);
            assert!(allowed.contains(&step), "{step:?}");
            if transaction.commits {
                seen.insert(transaction.order, transaction.status);
            }
        }
        assert!(seen.len() > 100, "orders are finished and new ones come");
    }

    #[test]
    fn a_rollback_is_seen_soon_and_is_rare() {
        let mut shop = Shop::new(2, 0);
        let commits: Vec<bool> = (0..100).map(|_| shop.next().commits).collect();
        assert_eq!(commits.iter().position(|commits| !commits), Some(3));
        assert_eq!(commits.iter().filter(|commits| !**commits).count(), 9);
    }

    #[test]
    fn payloads_are_json_objects_that_name_the_order() {
        let mut shop = Shop::new(3, 0);
        for _ in 0..100 {
            let transaction = shop.next();
            for event in transaction.events {
                let payload: serde_json::Value = serde_json::from_str(&event.payload).unwrap();
                assert_eq!(payload["order"], transaction.order.as_str());
            }
        }
    }
}
