//! Before a move: where the tenant is, how far an earlier try came, and whether the new cell
//! can take it.

use std::time::Duration;

use super::{GRACE, Holdings, Move, MoveError};
use crate::cell::{Cell, identity};
use crate::domain::ids::TenantId;
use crate::queue::migrate;

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Move, or go on with a move.
    Go(Move),
    /// It was to leave for another cell and shall stay.
    Undo(Move),
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    tenant_id: i64,
    residence: String,
    bound_for: Option<i16>,
}

/// Finds the tenant among the cells (the home cell first) and says what brings it to `to`.
pub async fn plan(
    cells: &[Cell],
    name: &str,
    to: &Cell,
    actor: &str,
    patience: Duration,
) -> Result<Plan, MoveError> {
    let home = cells.first().unwrap_or(to);
    let mut rows = Vec::new();
    let mut silent = None;
    for cell in cells {
        match row(cell, name).await {
            Ok(Some(row)) => rows.push((cell, row)),
            Ok(None) => {}
            // It matters only if the tenant is found nowhere else.
            Err(error) if cell.number != to.number => silent = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    let here = |residence: &str| rows.iter().find(|(_, row)| row.residence == residence);
    let make = |row: &Row, from: &Cell, to: &Cell| Move {
        tenant: TenantId::new(row.tenant_id),
        name: name.to_owned(),
        from: from.clone(),
        to: to.clone(),
        home: home.pool.clone(),
        actor: actor.to_owned(),
        patience,
        grace: GRACE,
    };
    // Not finished: the old cell still has rows of it.
    if let Some((old, row)) = here("left") {
        return if row.bound_for == Some(i16::from(to.number.get())) {
            Ok(Plan::Go(make(row, old, to)))
        } else {
            Err(on_its_way(cells, name, row, old))
        };
    }
    if let Some((old, row)) = here("leaving") {
        if old.number == to.number {
            let bound =
                cells.iter().find(|cell| Some(i16::from(cell.number.get())) == row.bound_for);
            let bound = bound.ok_or_else(|| on_its_way(cells, name, row, old))?;
            return Ok(Plan::Undo(make(row, old, bound)));
        }
        return if row.bound_for == Some(i16::from(to.number.get())) {
            Ok(Plan::Go(make(row, old, to)))
        } else {
            Err(on_its_way(cells, name, row, old))
        };
    }
    match here("here") {
        Some((old, _)) if old.number == to.number => {
            // A copy that was undone half-way may lie elsewhere yet.
            match here("arriving") {
                Some((other, row)) => Ok(Plan::Undo(make(row, old, other))),
                None => Err(MoveError::AlreadyThere {
                    tenant: name.to_owned(),
                    cell: to.name.to_string(),
                }),
            }
        }
        Some((old, row)) => Ok(Plan::Go(make(row, old, to))),
        None => match silent {
            Some(error) => Err(error.into()),
            None => Err(MoveError::NoTenant { tenant: name.to_owned() }),
        },
    }
}

fn on_its_way(cells: &[Cell], name: &str, row: &Row, old: &Cell) -> MoveError {
    let bound = cells.iter().find(|cell| Some(i16::from(cell.number.get())) == row.bound_for);
    MoveError::OnItsWay {
        tenant: name.to_owned(),
        bound_for: bound.map_or_else(
            || format!("number {}", row.bound_for.unwrap_or(-1)),
            |cell| cell.name.to_string(),
        ),
        here: old.name.to_string(),
    }
}

async fn row(cell: &Cell, name: &str) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as(include_str!("../sql/tenant.sql")).bind(name).fetch_optional(&cell.pool).await
}

impl Move {
    /// What would move.
    pub async fn holdings(&self) -> Result<Holdings, MoveError> {
        Ok(Holdings::count(&self.from.pool, self.tenant).await?)
    }

    /// Refuses before anything is touched what could not come to its end.
    pub async fn check(&self) -> Result<(), MoveError> {
        for cell in [&self.from, &self.to] {
            migrate::schema_is_current(&cell.pool).await?;
            identity::verify(cell).await?;
        }
        let unfit = |why: String| MoveError::Unfit { cell: self.to.name.to_string(), why };
        if let Some(row) = row(&self.to, &self.name).await? {
            if row.tenant_id != self.tenant.get() {
                return Err(unfit(format!("another tenant there is called {:?}", self.name)));
            }
            if !matches!(row.residence.as_str(), "gone" | "arriving") {
                let why = "an earlier move of it from there is not finished: run that again";
                return Err(unfit(why.to_owned()));
            }
        }
        let (domains, logins): (Vec<String>, Vec<String>) = sqlx::query_as(
            "select coalesce((select array_agg(domain) from postrider.sending_domain where tenant_id = $1), '{}'),
                    coalesce((select array_agg(login::text) from postrider.tenant_login where tenant_id = $1), '{}')",
        )
        .bind(self.tenant.get())
        .fetch_one(&self.from.pool)
        .await?;
        let (taken, missing): (Option<String>, Option<String>) = sqlx::query_as(
            "select (select string_agg(domain, ', ') from postrider.sending_domain
                     where domain = any ($2) and tenant_id <> $1),
                    (select string_agg(l, ', ') from unnest($3::text[]) l
                     where not exists (select 1 from pg_roles r where r.rolname = l and r.rolcanlogin))",
        )
        .bind(self.tenant.get())
        .bind(domains)
        .bind(logins)
        .fetch_one(&self.to.pool)
        .await?;
        if let Some(taken) = taken {
            return Err(unfit(format!("another tenant there owns {taken}: remove it there first")));
        }
        if let Some(missing) = missing {
            return Err(unfit(format!(
                "its database logins do not exist there: {missing}; create them (create role … login), \
                 or unbind them: postrider tenant login {} LOGIN --unbind",
                self.name
            )));
        }
        Ok(())
    }
}
