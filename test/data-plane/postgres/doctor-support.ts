/** A sound cell on a PostgreSQL server of the file's own (roles are the whole server's), to break and to mend. */
import type { Manifest } from '../../../domain/manifest.js';
import supportDesk from '../../../manifest/support-desk.js';
import { doctorPostgres, examineWithin, type Finding } from '../../../tenancy/postgres/doctor.js';
import { startOwnServers } from '../../support/servers.js';
import { openCell, type TestCell } from './support.js';

export interface Ward {
  cell(manifest?: Manifest): Promise<TestCell>;
  close(): Promise<void>;
}

/** A server with the roles of a cell and nothing else. */
export async function openWard(): Promise<Ward> {
  const { servers, close } = await startOwnServers(['cell']);
  return {
    cell: (manifest = supportDesk) => openCell({ adminUrl: servers.cell.url, manifest }),
    close,
  };
}

/** What breaks, examines and mends a cell. */
export interface Surgeon {
  run(sql: string): Promise<unknown>;
  examine(): Promise<Finding[]>;
}

/** Every statement is committed. */
export const forGood = ({ admin, manifest }: TestCell): Surgeon => ({
  run: (sql) => admin.query(sql),
  examine: () => doctorPostgres(admin, manifest),
});

/** All in one transaction, after which the cell is what it was; the doctor sees what the transaction sees. */
export async function undone(cell: TestCell, work: (surgeon: Surgeon) => Promise<void>): Promise<void> {
  const client = await cell.admin.connect();
  try {
    await client.query('BEGIN');
    await work({
      run: (sql) => client.query(sql),
      async examine() {
        await client.query('SAVEPOINT examination; SET TRANSACTION READ ONLY');
        const findings = await examineWithin(client, cell.manifest);
        await client.query('ROLLBACK TO SAVEPOINT examination; RELEASE SAVEPOINT examination');
        return findings;
      },
    });
  } finally {
    await client.query('ROLLBACK');
    client.release();
  }
}

/** What was found, in short. */
export const inShort = (findings: readonly Finding[]): string[] =>
  findings.map(
    ({ kind, object, invariant, severity }) =>
      `${kind} ${object}: ${invariant}${severity === undefined ? '' : ` (${severity})`}`,
  );

/** Runs what each proposes, in the order of the findings, until nothing is found; fails where that takes too long. */
export async function mendAll(surgeon: Surgeon, first: readonly Finding[]): Promise<number> {
  let findings = first;
  for (let round = 1; round <= 3; round += 1) {
    for (const { mend } of findings) if (mend !== undefined) await surgeon.run(mend);
    findings = await surgeon.examine();
    if (findings.length === 0) return round;
  }
  throw new Error(`not mended:\n${inShort(findings).join('\n')}`);
}
