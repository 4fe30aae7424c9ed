select stage, code, shape, count, first_seen, last_seen, sample
from postrider.unknown_reply order by count desc, last_seen desc, shape limit $1
