"""What PostgreSQL is asked: the texts of the statements, one for each transition."""

#: What is returned of each claimed job, in the order in which ``rows`` wants it. Times that Python
#: cannot hold are left out: one such row must not keep a worker from all others. The time of
#: the claim comes in its binary form: it is the same for all, and so need be read but once. The
#: queue is the one that was asked for. What most jobs have is left out, too: to send each number
#: takes as long as to read a column.
_CLAIMED = """
          id,
          CASE WHEN created BETWEEN '1000-01-01' AND '9000-01-01' THEN created ELSE modified END,
          timestamptz_send(modified), name, next_task,
          CASE WHEN workspace <> '{}' THEN workspace::text END, NULL, NULLIF(priority, 0),
          CASE WHEN run_after >= '1000-01-01' THEN run_after END,
          NULLIF(attempts, 1), NULLIF(losses, 0), error, NULLIF(version, 1), cancel_requested,
          dedupe_key
"""
#: What can be claimed of a queue.
_DUE = """
          claimable AND queue_name = %(queue)s
          AND (run_after IS NULL OR run_after <= STATEMENT_TIMESTAMP())
          AND name = ANY(%(names)s::text[])
"""
# Which due jobs of one queue come next, and now are this worker's?
# What had ended, and was set back by somebody, begins anew.
# An array, since the planner may run a bare IN (SELECT ... LIMIT) again for another row, and so
# claim too many; what other claims have locked is theirs.
CLAIM = f"""
UPDATE django_dbq_job
   SET state = 'PROCESSING', claim_token = %(token)s, worker = %(worker)s,
       attempts = CASE WHEN finished IS NULL THEN attempts ELSE 0 END + 1,
       losses = CASE WHEN finished IS NULL THEN losses ELSE 0 END,
       cancel_requested = CASE WHEN finished IS NULL THEN cancel_requested END,
       started = STATEMENT_TIMESTAMP(), modified = STATEMENT_TIMESTAMP(), finished = NULL,
       parked = NULL
 WHERE id = ANY(ARRAY(
       SELECT id FROM django_dbq_job
        WHERE {_DUE}
        ORDER BY priority DESC, created
        LIMIT %(limit)s
          FOR UPDATE SKIP LOCKED))
RETURNING {_CLAIMED}
"""

# Which of these jobs, whose next task is this, come before all that a claim would find? They go on:
# they are this worker's at once, under the token of that claim. That is one write in the place of
# two, the first of which would put the job among those that wait.
_FOLLOWING = f"""
following AS (
    SELECT -priority::int AS rank, created FROM django_dbq_job
     WHERE {_DUE}
     ORDER BY priority DESC, created
     LIMIT 1)
"""
_GOING_ON = """
       state = 'PROCESSING', next_task = %(next_task)s, claim_token = %(token)s, attempts = 1,
       losses = 0, error = NULL, started = STATEMENT_TIMESTAMP(), modified = STATEMENT_TIMESTAMP(),
       finished = NULL, parked = NULL
"""
GO_ON = f"""
WITH {_FOLLOWING}
UPDATE django_dbq_job SET {_GOING_ON}
 WHERE id = ANY(%(ids)s::uuid[]) AND claim_token = %(held)s AND state = 'PROCESSING'
   AND queue_name = %(queue)s AND (run_after IS NULL OR run_after <= STATEMENT_TIMESTAMP())
   AND name = ANY(%(names)s::text[])
   AND COALESCE((-priority::int, created) <= (SELECT rank, created FROM following), TRUE)
RETURNING {_CLAIMED}
"""

# And which of these, whose workspaces are those, and which have the rest in common?
GO_ON_EDITED = f"""
WITH {_FOLLOWING},
ended AS (
    SELECT * FROM ROWS FROM (unnest(%(ids)s::uuid[]), jsonb_array_elements(%(workspaces)s::jsonb))
        AS ended (job_id, edited))
UPDATE django_dbq_job
   SET {_GOING_ON}, workspace = edited, priority = %(priority)s, run_after = %(run_after)s,
       queue_name = %(queue)s, version = %(version)s
  FROM ended
 WHERE id = ANY(ARRAY(SELECT job_id FROM ended)) AND id = job_id
   AND claim_token = %(held)s AND state = 'PROCESSING'
   AND (%(run_after)s::timestamptz IS NULL OR %(run_after)s <= STATEMENT_TIMESTAMP())
   AND name = ANY(%(names)s::text[])
   AND COALESCE((-%(priority)s::int, created) <= (SELECT rank, created FROM following), TRUE)
RETURNING {_CLAIMED}
"""

# Which task is next of these jobs, which wait for it, as far as they are still ours?
# Returned are those that are not, of which there are none as a rule.
FINISH_ALIKE = """
WITH ended AS (SELECT %s::uuid[] AS ids),
written AS (
    UPDATE django_dbq_job
       SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL,
           claim_token = NULL, modified = STATEMENT_TIMESTAMP(), finished = NULL
     WHERE id = ANY((SELECT ids FROM ended)::uuid[]) AND claim_token = %s
       AND state IN ('PROCESSING', 'STOPPING')
    RETURNING id)
SELECT unnest(ids) FROM ended WHERE (SELECT count(*) FROM written) < cardinality(ids)
EXCEPT SELECT id FROM written
"""

# Which of these jobs are at their end, all in the same way, as far as they are still ours?
# It returns nothing, which takes 0.45 us less for each of them. How many were written says whether
# some are not ours.
END_ALIKE = """
UPDATE django_dbq_job
   SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL,
       claim_token = NULL, modified = STATEMENT_TIMESTAMP(), finished = STATEMENT_TIMESTAMP()
 WHERE id = ANY(%s::uuid[]) AND claim_token = %s AND state IN ('PROCESSING', 'STOPPING')
"""
# Which of them are not, though others are? Those whose row is not as that has left it, with the
# claim's own time: no worker writes to what has ended, and a rescue counts a loss.
NOT_ENDED = """
SELECT id FROM unnest(%s::uuid[]) AS ended (id)
EXCEPT
SELECT id FROM django_dbq_job
 WHERE id = ANY(%s::uuid[]) AND state = %s AND losses = %s AND claim_token IS NULL
   AND finished IS NOT NULL AND timestamptz_send(started) = ANY(%s::bytea[])
"""

# How did these jobs end, all in the same way but for their workspaces, as far as they are still
# ours? A job that is to be cancelled does not wait for its time.
FINISH_EDITED = """
WITH ended AS (
    SELECT * FROM ROWS FROM (unnest(%s::uuid[]), jsonb_array_elements(%s::jsonb))
        AS ended (id, workspace)),
written AS (
    UPDATE django_dbq_job AS job
       SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL,
           claim_token = NULL, modified = STATEMENT_TIMESTAMP(),
           finished = CASE WHEN %s THEN STATEMENT_TIMESTAMP() END,
           workspace = ended.workspace, priority = %s,
           run_after = CASE WHEN cancel_requested IS NULL THEN %s::timestamptz END,
           parked = CASE WHEN cancel_requested IS NULL THEN %s::timestamptz END,
           queue_name = %s, version = %s
      FROM ended
     WHERE job.id = ANY(ARRAY(SELECT id FROM ended)) AND job.id = ended.id
       AND job.claim_token = %s AND job.state IN ('PROCESSING', 'STOPPING')
    RETURNING job.id)
SELECT id FROM ended EXCEPT SELECT id FROM written
"""

# How did these jobs end, each in its own way, as far as they are still ours? What is to be kept of
# the attempts that failed?
# Where nothing was edited the last columns are NULL, and the row keeps what it has. A job that is
# to be cancelled does not wait for its time.
FINISH = """
WITH ended AS (
    SELECT * FROM json_to_recordset(%s::json) AS ended (
        id uuid, claim_token uuid, state text, next_task text, attempts int, losses int,
        error text, failed_task text, failed_attempt int, exception text, edited bool,
        workspace text, priority smallint, run_after timestamptz, parked timestamptz,
        queue_name text, version smallint)),
written AS (
    UPDATE django_dbq_job AS job
       SET state = ended.state, next_task = ended.next_task, attempts = ended.attempts,
           losses = ended.losses, error = ended.error, claim_token = NULL,
           modified = STATEMENT_TIMESTAMP(),
           finished = CASE WHEN ended.state IN ('COMPLETE', 'FAILED')
                           THEN STATEMENT_TIMESTAMP() END,
           workspace = CASE WHEN edited THEN ended.workspace::jsonb ELSE job.workspace END,
           priority = CASE WHEN edited THEN ended.priority ELSE job.priority END,
           run_after = CASE WHEN NOT edited THEN job.run_after
                            WHEN cancel_requested IS NULL THEN ended.run_after END,
           parked = CASE WHEN NOT edited THEN job.parked
                         WHEN cancel_requested IS NULL THEN ended.parked END,
           queue_name = CASE WHEN edited THEN ended.queue_name ELSE job.queue_name END,
           version = CASE WHEN edited THEN ended.version ELSE job.version END
      FROM ended
     WHERE job.id = ANY(ARRAY(SELECT id FROM ended)) AND job.id = ended.id
       AND job.claim_token = ended.claim_token
       AND job.state IN ('PROCESSING', 'STOPPING')
    RETURNING job.id, exception, failed_task, failed_attempt, ended.error),
failed AS (
    INSERT INTO django_dbq_failure
           (job_id, failed, worker, task, attempt, exception, traceback)
    SELECT id, STATEMENT_TIMESTAMP(), %s, failed_task, failed_attempt, exception, error
      FROM written WHERE exception IS NOT NULL)
SELECT id FROM ended EXCEPT SELECT id FROM written
"""


# Which parked jobs are due, and may be claimed from now on? How many were they, and in how many
# seconds, from those that are left, is the next one due?
# What a crash undoes is promoted again, so that this transaction need not wait for the disk.
PROMOTE = """
WITH promoted AS (
    UPDATE django_dbq_job SET parked = NULL
     WHERE id = ANY(ARRAY(
           SELECT id FROM django_dbq_job
            WHERE parked <= STATEMENT_TIMESTAMP() ORDER BY parked LIMIT %s
              FOR UPDATE SKIP LOCKED))
    RETURNING id)
SELECT (SELECT count(*) FROM promoted),
       EXTRACT(EPOCH FROM (SELECT min(parked) FROM django_dbq_job)
                          - STATEMENT_TIMESTAMP())::float8,
       CASE WHEN %s THEN set_config('synchronous_commit', 'off', true) END
"""
