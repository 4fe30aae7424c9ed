-- $1 failures  $2 over  $3 lasts  $4 forget (seconds). Written only where it differs.
update postrider.suppression_policy
set failures = $1, over = make_interval(secs => $2), lasts = make_interval(secs => $3), forget = make_interval(secs => $4)
where (failures, over, lasts, forget)
  is distinct from ($1, make_interval(secs => $2), make_interval(secs => $3), make_interval(secs => $4))
