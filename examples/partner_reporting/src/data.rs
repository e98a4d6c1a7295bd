//! Made-up partners, the same at each start: their clients, and the training and phishing results of those clients'
//! users.

use keyward::key::TenantId;
use serde::Serialize;

/// The partners, each of which is the tenant of its keys.
pub(crate) const NORTHWIND: &str = "northwind";
pub(crate) const CONTOSO: &str = "contoso";

const COURSES: [&str; 5] = [
    "Phishing basics",
    "Passwords",
    "Data protection",
    "Safe travel",
    "Incident reporting",
];
const CAMPAIGNS: [&str; 6] = [
    "Invoice",
    "Parcel",
    "Password reset",
    "Shared document",
    "Gift card",
    "Voicemail",
];
const FIRST: [&str; 8] = [
    "Ana", "Ben", "Chloe", "Dmitri", "Esra", "Felix", "Gita", "Hugo",
];
const LAST: [&str; 7] = [
    "Okafor", "Petrov", "Quinn", "Rossi", "Sato", "Tanaka", "Ueda",
];
const TRADES: [&str; 6] = ["Dental", "Logistics", "Bakery", "Law", "Clinic", "Foundry"];

/// Number of clicks from which a user counts as a repeat offender.
const REPEATED: usize = 3;

/// The time of an event, and its result.
type Shown = (String, Option<String>);

/// All partners' data.
#[derive(Debug)]
pub(crate) struct Partners {
    clients: Vec<Client>,
}

/// A client of a partner, such as a dentist whose network the partner maintains.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(skip)]
    partner: &'static str,
    #[serde(skip)]
    pub(crate) users: Vec<User>,
}

/// A person who works for a client.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) client: String,
    name: String,
    /// 0 to 100.
    risk_score: u8,
    training: Vec<Assignment>,
    phishing: Vec<Phish>,
}

/// A course assigned to a user.
#[derive(Debug, Clone, Serialize)]
struct Assignment {
    course: &'static str,
    assigned: String,
    completed: Option<String>,
    /// In percent.
    quiz_score: Option<u8>,
    certificate: Option<String>,
}

/// A made-up mail that was sent to a user.
#[derive(Debug, Clone, Serialize)]
struct Phish {
    campaign: &'static str,
    sent: String,
    was_clicked: bool,
    was_reported: bool,
}

/// Counts of everything.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Counts {
    clients: usize,
    users: usize,
    assignments: usize,
    completed: usize,
    phishing_sent: usize,
    phishing_clicked: usize,
    phishing_reported: usize,
}

/// One month's counts.
#[derive(Debug, Serialize)]
pub(crate) struct Month {
    month: String,
    completed: usize,
    clicked: usize,
}

/// One line of a report: a user and one item.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) id: String,
    user: String,
    name: String,
    about: &'static str,
    on: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// The progress of a client's users in one course.
#[derive(Debug, Serialize)]
pub(crate) struct Completion {
    course: &'static str,
    assigned: usize,
    completed: usize,
}

impl Partners {
    /// Creates 2 partners with 12 clients each, of 30 to 74 users.
    pub(crate) fn made_up() -> Self {
        let of =
            |partner, short| (1..=12).map(move |number| Client::made_up(partner, short, number));
        let clients = of(CONTOSO, "co").chain(of(NORTHWIND, "nw")).collect();
        Self { clients }
    }

    /// Returns a partner's clients.
    pub(crate) fn clients_of<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = &'a Client> {
        let clients = self.clients.iter();
        clients.filter(|client| client.partner == tenant.as_str())
    }

    /// Returns a partner's client.
    pub(crate) fn client<'a>(&'a self, tenant: &'a TenantId, id: &str) -> Option<&'a Client> {
        self.clients_of(tenant).find(|client| client.id == id)
    }

    /// Returns the client that a user works for, if it is this partner's. Otherwise a key could find out who works
    /// for others.
    pub(crate) fn client_of_user<'a>(
        &'a self,
        tenant: &'a TenantId,
        user: &str,
    ) -> Option<&'a str> {
        let clients = self.clients_of(tenant);
        let mut users = clients.flat_map(|client| &client.users);
        let user = users.find(|other| other.id == user)?;
        Some(&user.client)
    }
}

impl Client {
    fn made_up(partner: &'static str, short: &str, number: usize) -> Self {
        let id = format!("{short}-{number:03}");
        let trade = pick(&TRADES, number);
        let users = (1..=26 + number * 4).map(|user| User::made_up(&id, number * 31 + user, user));
        Self {
            name: format!("{trade} {number}"),
            partner,
            users: users.collect(),
            id,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let training = || self.users.iter().flat_map(|user| &user.training);
        let phishing = || self.users.iter().flat_map(|user| &user.phishing);
        Counts {
            clients: 1,
            users: self.users.len(),
            assignments: training().count(),
            completed: training().filter(|one| one.completed.is_some()).count(),
            phishing_sent: phishing().count(),
            phishing_clicked: phishing().filter(|one| one.was_clicked).count(),
            phishing_reported: phishing().filter(|one| one.was_reported).count(),
        }
    }

    /// Returns this report on training. `None` if there is no such report.
    pub(crate) fn training(&self, report: &str) -> Option<impl Iterator<Item = Entry>> {
        let shown: fn(&Assignment) -> Option<Shown> = match report {
            "assignments" => |one| Some((one.assigned.clone(), None)),
            "quiz-scores" => |one| {
                let score = format!("{} %", one.quiz_score?);
                Some((one.completed.clone()?, Some(score)))
            },
            "certificates" => |one| Some((one.completed.clone()?, Some(one.certificate.clone()?))),
            _ => return None,
        };
        Some(self.users.iter().flat_map(move |user| {
            let numbered = user.training.iter().enumerate();
            numbered.filter_map(move |(number, one)| {
                let (on, value) = shown(one)?;
                Some(user.entry(number, one.course, on, value))
            })
        }))
    }

    /// Returns this report on phishing. `None` if there is no such report.
    pub(crate) fn phishing(&self, report: &str) -> Option<impl Iterator<Item = Entry>> {
        let is_shown: fn(&Phish) -> bool = match report {
            "sends" => |_| true,
            "clicks" => |one| one.was_clicked,
            "reports" => |one| one.was_reported,
            _ => return None,
        };
        Some(self.users.iter().flat_map(move |user| {
            let numbered = user.phishing.iter().enumerate();
            let shown = numbered.filter(move |(_, one)| is_shown(one));
            shown.map(|(number, one)| user.entry(number, one.campaign, one.sent.clone(), None))
        }))
    }

    pub(crate) fn completion(&self) -> Vec<Completion> {
        let of_course = |course: &&'static str| {
            let training = self.users.iter().flat_map(|user| &user.training);
            let of_it: Vec<_> = training.filter(|one| one.course == *course).collect();
            Completion {
                course,
                assigned: of_it.len(),
                completed: of_it.iter().filter(|one| one.completed.is_some()).count(),
            }
        };
        COURSES.iter().map(of_course).collect()
    }

    pub(crate) fn repeat_offenders(&self) -> impl Iterator<Item = &User> {
        let clicks = |user: &User| user.phishing.iter().filter(|one| one.was_clicked).count();
        self.users
            .iter()
            .filter(move |user| clicks(user) >= REPEATED)
    }
}

impl User {
    fn made_up(client: &str, seed: usize, number: usize) -> Self {
        let training = COURSES.iter().enumerate().map(|(index, course)| {
            let is_done = !(seed + index * 3).is_multiple_of(4);
            let is_passed = is_done && !(seed + index).is_multiple_of(5);
            let day = 1 + (seed + index * 7) % 28;
            Assignment {
                course,
                assigned: format!("2026-{:02}-01", 1 + index),
                completed: is_done.then(|| format!("2026-{:02}-{day:02}", 1 + index)),
                quiz_score: is_done
                    .then(|| u8::try_from(55 + (seed * 7 + index) % 46).unwrap_or(100)),
                certificate: is_passed.then(|| format!("C-{client}-{number:03}-{index}")),
            }
        });
        let phishing = CAMPAIGNS.iter().enumerate().map(|(index, campaign)| {
            let was_clicked = (seed * 5 + index * index) % 7 < 2;
            Phish {
                campaign,
                sent: format!("2026-{:02}-{:02}", 1 + index, 10 + seed % 10),
                was_clicked,
                was_reported: !was_clicked && (seed + index).is_multiple_of(3),
            }
        });
        let phishing: Vec<_> = phishing.collect();
        let clicks = phishing.iter().filter(|one| one.was_clicked).count();
        Self {
            id: format!("{client}-u{number:03}"),
            client: client.to_owned(),
            name: format!("{} {}", pick(&FIRST, seed), pick(&LAST, seed / 3)),
            risk_score: u8::try_from(20 * clicks + seed % 20)
                .unwrap_or(100)
                .min(100),
            training: training.collect(),
            phishing,
        }
    }

    fn entry(
        &self,
        number: usize,
        about: &'static str,
        on: String,
        value: Option<String>,
    ) -> Entry {
        Entry {
            id: format!("{}-{number}", self.id),
            user: self.id.clone(),
            name: self.name.clone(),
            about,
            on,
            value,
        }
    }
}

impl Counts {
    /// Adds two counts.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            clients: self.clients + other.clients,
            users: self.users + other.users,
            assignments: self.assignments + other.assignments,
            completed: self.completed + other.completed,
            phishing_sent: self.phishing_sent + other.phishing_sent,
            phishing_clicked: self.phishing_clicked + other.phishing_clicked,
            phishing_reported: self.phishing_reported + other.phishing_reported,
        }
    }
}

/// Returns the counts of these clients for each month with data.
pub(crate) fn trends(clients: &[&Client]) -> Vec<Month> {
    let users = || clients.iter().flat_map(|client| &client.users);
    let months = (1..=6).map(|month| format!("2026-{month:02}"));
    let of_month = |month: String| {
        let training = users().flat_map(|user| &user.training);
        let completed = training.filter_map(|one| one.completed.as_ref());
        let phishing = users().flat_map(|user| &user.phishing);
        Month {
            completed: completed.filter(|day| day.starts_with(&month)).count(),
            clicked: phishing
                .filter(|one| one.was_clicked && one.sent.starts_with(&month))
                .count(),
            month,
        }
    };
    months.map(of_month).collect()
}

fn pick<'a>(among: &[&'a str], number: usize) -> &'a str {
    among
        .iter()
        .cycle()
        .nth(number % among.len())
        .copied()
        .unwrap_or_default()
}
