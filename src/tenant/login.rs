//! Database logins that may submit mail for a tenant by `postrider.send`.
//!
//! A bound login gets two rights: to enter the schema and to call that one
//! function. It cannot read a table of ours, and it acts for its tenant only,
//! whatever it sets in its session.

use futures_util::FutureExt;
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool};

use super::isolation::TenantScope;
use crate::domain::ids::TenantId;

/// A login and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Login {
    /// The role that connects.
    pub login: String,
    /// The tenant it submits for.
    pub tenant: String,
}

/// Why a login was not bound or freed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such role in this cluster.
    #[error(
        "there is no database role {login:?} that may log in: create it first (create role … login)"
    )]
    NoLogin {
        /// The name that was given.
        login: String,
    },
    /// It could read every tenant's rows without us.
    #[error(
        "the database role {login:?} is a superuser or acts for postrider itself, so it could see \
         every tenant: bind an ordinary role of the application"
    )]
    TooMighty {
        /// The name that was given.
        login: String,
    },
    /// It acts for another tenant.
    #[error(
        "the database role {login:?} is bound to another tenant: free it there first (--unbind)"
    )]
    Taken {
        /// The name that was given.
        login: String,
    },
    /// It is not bound to this tenant.
    #[error("the database role {login:?} is not bound to this tenant")]
    NotBound {
        /// The name that was given.
        login: String,
    },
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Lets `login` submit for the tenant. Binding it again changes nothing.
pub async fn bind(pool: &PgPool, scope: TenantScope, login: &str) -> Result<(), LoginError> {
    let role: Option<bool> = sqlx::query_scalar(
        "select pg_has_role(oid, 'postrider_worker', 'member')
             or pg_has_role(oid, 'postrider_api', 'member')
             or pg_has_role(oid, 'postrider_operator', 'member')
         from pg_roles where rolname = $1 and rolcanlogin",
    )
    .bind(login)
    .fetch_optional(pool)
    .await?;
    match role {
        None => return Err(LoginError::NoLogin { login: login.to_owned() }),
        Some(true) => return Err(LoginError::TooMighty { login: login.to_owned() }),
        Some(false) => {}
    }
    let name = login.to_owned();
    let bound = scope
        .operate(pool, move |conn| {
            async move {
                // Another tenant's row is not seen, but its primary key is felt.
                let done = sqlx::query(
                    "insert into postrider.tenant_login(login, tenant_id) values ($1::name, $2)
                     on conflict do nothing",
                )
                .bind(&name)
                .bind(scope.tenant().get())
                .execute(&mut *conn)
                .await?;
                if done.rows_affected() == 0 && !is_bound(conn, scope, &name).await? {
                    return Ok(false);
                }
                grant(conn, &name, Grant::Give).await?;
                Ok(true)
            }
            .boxed()
        })
        .await?;
    if bound { Ok(()) } else { Err(LoginError::Taken { login: login.to_owned() }) }
}

/// Takes the right to submit away again.
pub async fn unbind(pool: &PgPool, scope: TenantScope, login: &str) -> Result<(), LoginError> {
    let name = login.to_owned();
    let freed = scope
        .operate(pool, move |conn| {
            async move {
                let done = sqlx::query(
                    "delete from postrider.tenant_login where login = $1::name and tenant_id = $2",
                )
                .bind(&name)
                .bind(scope.tenant().get())
                .execute(&mut *conn)
                .await?;
                if done.rows_affected() == 0 {
                    return Ok(false);
                }
                grant(conn, &name, Grant::Take).await?;
                Ok(true)
            }
            .boxed()
        })
        .await?;
    if freed { Ok(()) } else { Err(LoginError::NotBound { login: login.to_owned() }) }
}

/// Binds in `to` the logins that act for the tenant in `from`, where they lose the right. For
/// a tenant that moved; repeating it changes nothing. How many there are.
pub async fn carry_over(
    from: &PgPool,
    to: &PgPool,
    tenant: TenantId,
) -> Result<usize, sqlx::Error> {
    let logins: Vec<String> =
        sqlx::query_scalar("select login::text from postrider.tenant_login where tenant_id = $1")
            .bind(tenant.get())
            .fetch_all(from)
            .await?;
    for login in &logins {
        sqlx::query(
            "insert into postrider.tenant_login(login, tenant_id) values ($1::name, $2)
             on conflict do nothing",
        )
        .bind(login)
        .bind(tenant.get())
        .execute(to)
        .await?;
        grant(&mut *to.acquire().await?, login, Grant::Give).await?;
        grant(&mut *from.acquire().await?, login, Grant::Take).await?;
    }
    Ok(logins.len())
}

/// All bound logins.
pub async fn list(pool: &PgPool) -> Result<Vec<Login>, LoginError> {
    Ok(sqlx::query_as(
        "select l.login::text as login, t.name as tenant
         from postrider.tenant_login l join postrider.tenant t using (tenant_id) order by 2, 1",
    )
    .fetch_all(pool)
    .await?)
}

async fn is_bound(
    conn: &mut PgConnection,
    scope: TenantScope,
    login: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select 1 from postrider.tenant_login where login = $1::name and tenant_id = $2)",
    )
    .bind(login)
    .bind(scope.tenant().get())
    .fetch_one(conn)
    .await
}

#[derive(Clone, Copy)]
enum Grant {
    Give,
    Take,
}

/// A role's name cannot be a parameter of `grant`; the database itself quotes it.
async fn grant(conn: &mut PgConnection, login: &str, what: Grant) -> Result<(), sqlx::Error> {
    let statement: String = sqlx::query_scalar(match what {
        Grant::Give => {
            "select format('grant usage on schema postrider to %1$I;
               grant execute on function postrider.send(json, text) to %1$I', $1::text)"
        }
        Grant::Take => {
            "select format('revoke execute on function postrider.send(json, text) from %1$I;
               revoke usage on schema postrider from %1$I', $1::text)"
        }
    })
    .bind(login)
    .fetch_one(&mut *conn)
    .await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await?;
    Ok(())
}
