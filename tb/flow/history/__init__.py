"""The history of runs: a database that takes in the records of regressions and coverage, and the questions
that it answers.

`schema` has the tables, `migrations/` the way from each version of them to the next, `database` the
connection, `intake` what comes in, `questions` what is asked. Nothing that runs simulations imports this
room: records go to files first, and the database may be away.
"""
