-- Set by the first undo of a run: from then on a step of that run that is still at work somewhere is refused its record,
-- so that it can never say of something that was just removed that it is there.
ALTER TABLE operation ADD COLUMN undoing boolean NOT NULL DEFAULT false;
