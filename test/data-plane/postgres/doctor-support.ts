/** A sound cell on a PostgreSQL server of the file's own (roles are the whole server's), to break and to mend. */
import { rm } from 'node:fs/promises';
import type { Manifest } from '../../../domain/manifest.js';
import { startPostgres } from '../../../local/postgres.js';
import { silentReport } from '../../../local/report.js';
import supportDesk from '../../../manifest/support-desk.js';
import { doctorPostgres, type Finding } from '../../../tenancy/postgres/doctor.js';
import { serverFolder } from '../../support/folder.js';
import { prepareTemplates } from '../../support/prepare.js';
import { ownEnv } from '../../support/servers.js';
import { testStack } from '../../support/stack.js';
import { openCell, type TestCell } from './support.js';

export interface Ward {
  cell(manifest?: Manifest): Promise<TestCell>;
  close(): Promise<void>;
}

/** A server with the roles of a cell and nothing else. */
export async function openWard(): Promise<Ward> {
  const directory = await serverFolder('doctor');
  const server = await startPostgres({
    dataDir: directory,
    report: silentReport,
    env: ownEnv(),
    durable: false,
  });
  const { controlTemplate, passwords } = testStack();
  await prepareTemplates(server.url, controlTemplate, passwords);
  return {
    cell: (manifest = supportDesk) => openCell({ adminUrl: server.url, manifest }),
    async close() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export const examine = ({ admin, manifest }: TestCell): Promise<Finding[]> => doctorPostgres(admin, manifest);

/** What was found, in short. */
export const inShort = (findings: readonly Finding[]): string[] =>
  findings.map(({ kind, object, invariant }) => `${kind} ${object}: ${invariant}`);

/** Runs what each proposes, in the order of the findings, until nothing is found; fails where that takes too long. */
export async function mendAll(cell: TestCell, first: readonly Finding[]): Promise<number> {
  let findings = first;
  for (let round = 1; round <= 3; round += 1) {
    for (const { mend } of findings) if (mend !== undefined) await cell.admin.query(mend);
    findings = await examine(cell);
    if (findings.length === 0) return round;
  }
  throw new Error(`not mended:\n${inShort(findings).join('\n')}`);
}
