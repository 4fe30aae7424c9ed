-- $1 how many. A day is over a little after midnight, when all processes have stored its results.
select r.day, r.domain, coalesce(t.done, '{}') as done
from (select distinct day, domain from postrider.tls_result
      where day < ((now() - interval '10 minutes') at time zone 'UTC')::date) r
left join postrider.tls_report t on t.day = r.day and t.domain = r.domain
where t.day is null or (t.state = 'open' and t.next_at <= now())
order by r.day, r.domain
limit $1
