-- $1 reason of a pause. Who set it, and when, as far as it is recorded.
select actor, at from postrider.operator_action
where action = 'queue pause' and reason = $1
order by action_id desc limit 1
