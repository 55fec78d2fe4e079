-- The newest attempt that was taken back, so that nobody is told that it was admitted. Of a first one nothing stays at all.
ALTER TABLE operation ADD COLUMN withdrawn_attempt int NOT NULL DEFAULT 0;
