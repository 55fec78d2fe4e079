/** Databases of a test's own, each a copy of one of the templates of `prepare.ts`. */
import pg from 'pg';
import { type RoleName, rightsOnDatabase } from '../../catalogue/bootstrap.js';

export interface WantedDatabase {
  readonly name: string;
  readonly template: string;
  /** Who may connect, beside the owner. */
  readonly roles: readonly RoleName[];
}

/** @param admin connected to the server as a superuser */
export async function copyDatabase(admin: pg.Client | pg.Pool, wanted: WantedDatabase): Promise<void> {
  const { name, template, roles } = wanted;
  // File by file: the other way reads each page and writes it into the log, and leaves out what the server keeps in files
  // of its own to start sessions by. Measured: a third of the processor time.
  await admin.query(`CREATE DATABASE ${name} TEMPLATE ${template} STRATEGY file_copy`);
  await admin.query(rightsOnDatabase(name, roles));
}

/** Without FORCE: a connection that a test forgot to close makes it fail. */
export async function dropDatabase(admin: pg.Client | pg.Pool, name: string): Promise<void> {
  await admin.query(`DROP DATABASE ${name}`);
}
