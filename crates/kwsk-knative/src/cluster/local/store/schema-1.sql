-- Documents. `version` is the resource version; `uid` is kept beside the metadata so that a channel's fan-out reads no JSON.
CREATE TABLE documents (
  id INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  uid TEXT NOT NULL,
  metadata TEXT NOT NULL,
  body TEXT NOT NULL
);
CREATE UNIQUE INDEX documents_by_key ON documents (kind, namespace, name);
-- What documents are selected by: their labels, and a Subscription's channel.
CREATE TABLE selectors (
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  document INTEGER NOT NULL,
  PRIMARY KEY (key, value, document)
) WITHOUT ROWID;
-- The last resource version that was given out.
CREATE TABLE sequence (value INTEGER NOT NULL);
INSERT INTO sequence VALUES (0);

-- Records. `name` is what the list filter compares.
CREATE TABLE activations (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  namespace TEXT NOT NULL,
  start INTEGER NOT NULL,
  name TEXT NOT NULL,
  record BLOB NOT NULL
);
CREATE INDEX activations_by_start ON activations (namespace, start, name);
-- Invocations that were accepted and have no record.
CREATE TABLE journal (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  begun INTEGER NOT NULL,
  accepted BLOB NOT NULL
);

-- Events that channels have accepted, one row each however many subscriptions get them.
CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  namespace TEXT NOT NULL,
  channel TEXT NOT NULL,
  targets BLOB NOT NULL,
  head TEXT NOT NULL,
  body BLOB NOT NULL
);
-- How many targets of an event are not done.
CREATE TABLE fan_out (event INTEGER PRIMARY KEY, remaining INTEGER NOT NULL);
-- Where a target of an event stands, once there is anything to tell.
CREATE TABLE deliveries (
  event INTEGER NOT NULL,
  target INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  next_at INTEGER NOT NULL,
  PRIMARY KEY (event, target)
) WITHOUT ROWID;
