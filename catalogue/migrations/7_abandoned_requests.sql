-- Requests that have no answer are looked through for those that nobody will ever answer. The others, which are remembered for
-- their idempotency key, have no body any more, and are far more.
DROP INDEX request_age;
CREATE INDEX request_unanswered ON request (created_at) WHERE body <> '{}';
