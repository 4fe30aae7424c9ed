-- $1 the prefix of the shown key
select * from postrider.authenticate($1)
