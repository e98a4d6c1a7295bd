//! Made-up workspaces, the same at each start: their projects, blueprints, editions and outputs. New and submitted
//! editions are kept until the program ends.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use keyward::key::TenantId;
use serde::{Deserialize, Serialize};

/// The workspaces, each of which is the tenant of its keys.
pub(crate) const MERIDIAN: &str = "meridian";
pub(crate) const BOREALIS: &str = "borealis";

const BLUEPRINTS: [&str; 3] = ["Quarterly report", "Board pack", "Sustainability statement"];

/// Editions of each blueprint, at start.
const EDITIONS: usize = 12;

/// Rows in an output, and rows in the output that exceeds the bound on responses.
const ROWS: usize = 20_000;
const TOO_MANY_ROWS: usize = 250_000;

/// All workspaces' data.
#[derive(Debug)]
pub(crate) struct Workspaces {
    projects: BTreeMap<String, Project>,
    blueprints: BTreeMap<String, Blueprint>,
    changing: RwLock<Changing>,
}

/// The data that requests change.
#[derive(Debug, Default)]
struct Changing {
    editions: BTreeMap<String, Edition>,
    /// The edition of each output.
    outputs: BTreeMap<String, String>,
}

/// A project that a workspace reports on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Project {
    pub(crate) id: String,
    name: String,
    #[serde(skip)]
    workspace: &'static str,
}

/// A template for the editions of a report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Blueprint {
    pub(crate) id: String,
    project: String,
    title: &'static str,
}

/// The part of an edition that a list shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) project: String,
    pub(crate) blueprint: String,
    title: String,
    state: State,
}

/// One edition of a report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Edition {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    commentary: String,
    outputs: Vec<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Draft,
    Submitted,
}

/// A file generated from an edition.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Output {
    pub(crate) id: String,
    /// The number of times it was generated. If it is 0, there is nothing to download.
    generated: u32,
    pub(crate) rows: usize,
}

/// The body of a request for a new edition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEdition {
    blueprint: String,
    title: String,
    /// The project of the edition, if given.
    project: Option<String>,
    #[serde(default)]
    commentary: String,
}

/// The reason why an operation is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The key's workspace has no such object.
    Unknown,
    /// The body names another project than the one that the guard admitted the request for.
    OtherProject,
    /// The blueprint does not belong to the project.
    OtherBlueprint,
    AlreadySubmitted,
    NeverGenerated,
}

impl Workspaces {
    /// Creates 2 workspaces of 8 and 3 projects, with 3 blueprints each, of 12 editions each, with an output each.
    pub(crate) fn made_up() -> Self {
        let of = |workspace, ids: std::ops::RangeInclusive<usize>| {
            ids.map(move |number| Project {
                id: format!("p-{number}"),
                name: format!("Project {number}"),
                workspace,
            })
        };
        let projects = of(MERIDIAN, 1..=8).chain(of(BOREALIS, 91..=93));
        let projects: BTreeMap<_, _> = projects.map(|one| (one.id.clone(), one)).collect();
        let blueprints = projects.keys().flat_map(|project| {
            (1..).zip(BLUEPRINTS).map(move |(number, title)| Blueprint {
                id: format!("{project}-b{number}"),
                project: project.clone(),
                title,
            })
        });
        let blueprints: BTreeMap<_, _> = blueprints.map(|one| (one.id.clone(), one)).collect();
        let mut changing = Changing::default();
        for blueprint in blueprints.values() {
            for number in 1..=EDITIONS {
                changing.insert(Edition::made_up(blueprint, number));
            }
        }
        Self {
            projects,
            blueprints,
            changing: RwLock::new(changing),
        }
    }

    /// Returns a workspace's project.
    pub(crate) fn project(&self, tenant: &TenantId, id: &str) -> Option<&Project> {
        let project = self.projects.get(id);
        project.filter(|project| project.workspace == tenant.as_str())
    }

    /// Returns a workspace's projects.
    pub(crate) fn projects<'a>(
        &'a self,
        tenant: &'a TenantId,
    ) -> impl Iterator<Item = &'a Project> {
        let projects = self.projects.values();
        projects.filter(|project| project.workspace == tenant.as_str())
    }

    /// Returns a project's blueprints.
    pub(crate) fn blueprints<'a>(
        &'a self,
        project: &'a Project,
    ) -> impl Iterator<Item = &'a Blueprint> {
        let blueprints = self.blueprints.values();
        blueprints.filter(|blueprint| blueprint.project == project.id)
    }

    /// Returns a workspace's blueprint.
    pub(crate) fn blueprint(&self, tenant: &TenantId, id: &str) -> Option<&Blueprint> {
        let blueprint = self.blueprints.get(id)?;
        self.project(tenant, &blueprint.project).map(|_| blueprint)
    }

    /// Returns the matching editions of all workspaces.
    pub(crate) fn editions(&self, is_wanted: impl Fn(&Summary) -> bool) -> Vec<Summary> {
        let changing = self.read();
        let all = changing.editions.values().map(|edition| &edition.summary);
        all.filter(|one| is_wanted(one)).cloned().collect()
    }

    /// Returns a workspace's edition.
    pub(crate) fn edition(&self, tenant: &TenantId, id: &str) -> Option<Edition> {
        let edition = self.read().editions.get(id).cloned()?;
        self.project(tenant, &edition.summary.project)?;
        Some(edition)
    }

    /// Returns the project of a blueprint, in any workspace. There are the same for editions and outputs.
    pub(crate) fn project_of_blueprint(&self, id: &str) -> Option<String> {
        let blueprint = self.blueprints.get(id)?;
        Some(blueprint.project.clone())
    }

    pub(crate) fn project_of_edition(&self, id: &str) -> Option<String> {
        let changing = self.read();
        let edition = changing.editions.get(id)?;
        Some(edition.summary.project.clone())
    }

    pub(crate) fn project_of_output(&self, id: &str) -> Option<String> {
        let edition = self.read().outputs.get(id).cloned()?;
        self.project_of_edition(&edition)
    }

    /// Creates an edition in a project of the workspace.
    pub(crate) fn create(
        &self,
        tenant: &TenantId,
        project: &str,
        new: NewEdition,
    ) -> Result<Edition, Unfit> {
        let project = self.project(tenant, project).ok_or(Unfit::Unknown)?;
        if new.project.is_some_and(|named| named != project.id) {
            return Err(Unfit::OtherProject);
        }
        let mut blueprints = self.blueprints(project);
        let blueprint = blueprints.find(|blueprint| blueprint.id == new.blueprint);
        let blueprint = blueprint.ok_or(Unfit::OtherBlueprint)?;
        let mut changing = self.write();
        let editions = changing.editions.values();
        let siblings = editions.filter(|one| one.summary.blueprint == blueprint.id);
        let number = siblings.count() + 1;
        let edition = Edition::new(blueprint, number, new.title, new.commentary);
        changing.insert(edition.clone());
        Ok(edition)
    }

    /// Submits an edition of the workspace, once.
    pub(crate) fn submit(&self, tenant: &TenantId, id: &str) -> Result<Edition, Unfit> {
        let mut changing = self.write();
        let edition = changing.editions.get_mut(id).ok_or(Unfit::Unknown)?;
        self.project(tenant, &edition.summary.project)
            .ok_or(Unfit::Unknown)?;
        if edition.summary.state == State::Submitted {
            return Err(Unfit::AlreadySubmitted);
        }
        edition.summary.state = State::Submitted;
        Ok(edition.clone())
    }

    /// Generates an output of the workspace once more.
    pub(crate) fn generate(&self, tenant: &TenantId, id: &str) -> Result<Output, Unfit> {
        let mut changing = self.write();
        let edition = changing.outputs.get(id).cloned().ok_or(Unfit::Unknown)?;
        let edition = changing.editions.get_mut(&edition).ok_or(Unfit::Unknown)?;
        self.project(tenant, &edition.summary.project)
            .ok_or(Unfit::Unknown)?;
        let mut outputs = edition.outputs.iter_mut();
        let output = outputs.find(|output| output.id == id);
        let output = output.ok_or(Unfit::Unknown)?;
        output.generated += 1;
        Ok(output.clone())
    }

    /// Returns an output of the workspace that was generated.
    pub(crate) fn generated(&self, tenant: &TenantId, id: &str) -> Result<Output, Unfit> {
        let edition = self.read().outputs.get(id).cloned();
        let edition = edition.and_then(|edition| self.edition(tenant, &edition));
        let mut outputs = edition.ok_or(Unfit::Unknown)?.outputs.into_iter();
        let output = outputs.find(|output| output.id == id);
        let output = output.ok_or(Unfit::Unknown)?;
        if output.generated == 0 {
            return Err(Unfit::NeverGenerated);
        }
        Ok(output)
    }

    fn read(&self) -> RwLockReadGuard<'_, Changing> {
        self.changing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Changing> {
        let changing = self.changing.write();
        changing.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changing {
    fn insert(&mut self, edition: Edition) {
        let id = edition.summary.id.clone();
        for output in &edition.outputs {
            self.outputs.insert(output.id.clone(), id.clone());
        }
        self.editions.insert(id, edition);
    }
}

impl Edition {
    fn new(blueprint: &Blueprint, number: usize, title: String, commentary: String) -> Self {
        let id = format!("{}-e{number:03}", blueprint.id);
        let output = Output {
            id: format!("{id}-o1"),
            generated: 0,
            rows: ROWS,
        };
        let summary = Summary {
            id,
            project: blueprint.project.clone(),
            blueprint: blueprint.id.clone(),
            title,
            state: State::Draft,
        };
        Self {
            summary,
            commentary,
            outputs: vec![output],
        }
    }

    /// Creates an edition. The first half of them are submitted, and their outputs are generated.
    fn made_up(blueprint: &Blueprint, number: usize) -> Self {
        let title = format!("{}, no. {number}", blueprint.title);
        let mut edition = Self::new(blueprint, number, title, String::new());
        if number <= EDITIONS / 2 {
            edition.summary.state = State::Submitted;
            for output in &mut edition.outputs {
                output.generated = 1;
            }
        }
        if edition.summary.id == "p-1-b3-e001" {
            for output in &mut edition.outputs {
                output.rows = TOO_MANY_ROWS;
            }
        }
        edition
    }
}
