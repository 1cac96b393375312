//! The role matrix: which roles may call which method. The README has the same table, and a test walks it.

use std::fmt;
use std::str::FromStr;

/// What somebody is there to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A timeline service: is an account withheld here?
    Reader,
    /// Puts orders into force, and takes them out again.
    Operator,
    /// The second person.
    Approver,
    /// Sees everything, changes nothing.
    Auditor,
    /// Decides who is protected, and does what operators do.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Reader, Self::Operator, Self::Approver, Self::Auditor, Self::Admin];

    /// As the access file has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|role| role.as_str()).collect();
            format!("`{text}` is no role: there are {}", known.join(", "))
        })
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// Every one: where nobody is asked.
    pub const ALL: Self = Self(0b1_1111);

    /// These.
    #[must_use]
    pub const fn of(roles: &[Role]) -> Self {
        let mut set = 0;
        let mut rest = roles;
        while let [role, others @ ..] = rest {
            set |= 1 << *role as u8;
            rest = others;
        }
        Self(set)
    }

    /// Whether a role is in both.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it is in it.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.meets(Self::of(&[role]))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Role::ALL.into_iter().filter(|role| self.has(*role)).map(Role::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

use Role::{Admin, Approver, Auditor, Operator, Reader};

/// Who asks for verdicts.
const ASK: Roles = Roles::of(&[Reader, Operator, Approver, Auditor, Admin]);
/// Who sees orders, also confidential ones.
const SEE: Roles = Roles::of(&[Operator, Approver, Auditor, Admin]);
/// Who puts orders into force, and takes them out.
const DO: Roles = Roles::of(&[Operator, Admin]);
/// Who is the second person.
const APPROVE: Roles = Roles::of(&[Approver, Admin]);
/// Who ends what waits: the second person, and whoever proposed it, which is asked where the order is known.
const REJECT: Roles = Roles::of(&[Operator, Approver, Admin]);
/// Who decides that an account is not protected any more.
const UNPROTECT: Roles = Roles::of(&[Admin]);
/// Who decides that no program of before is to read the journal any more.
const UPGRADE: Roles = Roles::of(&[Admin]);
/// Who looks at the record itself.
const AUDIT: Roles = Roles::of(&[Auditor, Admin]);

/// Every method, by service and name, and who may call it.
pub const MATRIX: &[(&str, &str, Roles)] = &[
    ("withheld.v1.VisibilityService", "Check", ASK),
    ("withheld.v1.VisibilityService", "BatchCheck", ASK),
    ("withheld.v1.VisibilityService", "ListWithheldCountries", ASK),
    ("withheld.v1.VisibilityService", "WatchWithholdings", ASK),
    ("withheld.v1.OrderService", "PreviewOrder", SEE),
    ("withheld.v1.OrderService", "UploadItems", DO),
    ("withheld.v1.OrderService", "ApplyOrder", DO),
    ("withheld.v1.OrderService", "ApproveOrder", APPROVE),
    ("withheld.v1.OrderService", "RejectOrder", REJECT),
    ("withheld.v1.OrderService", "LiftOrder", DO),
    ("withheld.v1.OrderService", "LiftItems", DO),
    ("withheld.v1.OrderService", "StayOrder", DO),
    ("withheld.v1.OrderService", "ResumeOrder", DO),
    ("withheld.v1.OrderService", "RecordCorrespondence", DO),
    ("withheld.v1.OrderService", "GetOrder", SEE),
    ("withheld.v1.OrderService", "ListOrders", SEE),
    ("withheld.v1.OrderService", "ListDueOrders", SEE),
    ("withheld.v1.OrderService", "ListOrderItems", SEE),
    ("withheld.v1.OrderService", "ExplainAccount", SEE),
    ("withheld.v1.ProtectionService", "ProtectAccounts", DO),
    ("withheld.v1.ProtectionService", "UnprotectAccounts", UNPROTECT),
    ("withheld.v1.ProtectionService", "ListProtectedAccounts", SEE),
    ("withheld.v1.ReportService", "GetEnforcementReport", SEE),
    ("withheld.v1.ReportService", "GetTransparencyReport", SEE),
    ("withheld.v1.ReportService", "GetNotice", SEE),
    ("withheld.v1.AuditService", "ListEntries", AUDIT),
    ("withheld.v1.AuditService", "VerifyJournal", AUDIT),
    ("withheld.v1.AuditService", "GetCheckpoint", AUDIT),
    ("withheld.v1.JournalService", "GetJournal", SEE),
    ("withheld.v1.JournalService", "UpgradeJournal", UPGRADE),
];

/// What is asked of who calls a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: health and reflection.
    Anybody,
    /// One of these roles.
    Needs(Roles),
}

/// The rule of a path, `/SERVICE/METHOD`. A method that is in no table is nobody's: that it is forgotten here must not
/// open it.
#[must_use]
pub fn rule_of(path: &str) -> Rule {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) else {
        return Rule::Needs(Roles::NONE);
    };
    if service.starts_with("grpc.health.v1.") || service.starts_with("grpc.reflection.") {
        return Rule::Anybody;
    }
    let listed = MATRIX.iter().find(|(s, m, _)| *m == method && *s == service);
    Rule::Needs(listed.map_or(Roles::NONE, |(_, _, roles)| *roles))
}
