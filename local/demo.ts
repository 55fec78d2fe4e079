// Two tenants made through the API as anyone would, their steps shown as they happen, and what exists of them.

import { setTimeout as wait } from 'node:timers/promises';
import { openCatalogue } from '../catalogue/index.js';
import { resolveSecret } from '../domain/config.js';
import { tenantId } from '../domain/ids.js';
import { connectCell } from '../tenancy/cell-connections.js';
import { disagreements, surveyTenant } from '../tenancy/survey.js';
import type { Report } from './report.js';

const DEMO = [
  { slug: 'acme', name: 'Acme Support', plan: 'team' },
  { slug: 'globex', name: 'Globex Corporation', plan: 'free' },
];

interface Demo {
  readonly apiUrl: string;
  readonly token: string;
  readonly env: NodeJS.ProcessEnv;
  readonly report: Report;
  readonly signal: AbortSignal;
}

export async function showDemoTenants(demo: Demo): Promise<void> {
  for (const body of DEMO) {
    const known = await call(demo, `/v1/tenants?slug=${body.slug}`);
    const [tenant] = known['items'] as { id: string; state: string }[];
    if (tenant === undefined) await provision(demo, body);
    else demo.report.info(`tenant ${body.slug} is there from an earlier start (${tenant.state})`);
  }
  await showStores(demo);
}

async function provision(demo: Demo, body: (typeof DEMO)[number]): Promise<void> {
  demo.report.info(`POST /v1/tenants ${JSON.stringify(body)}`);
  let operation = await call(demo, '/v1/tenants', { body, key: `demo-${body.slug}` });
  const shown = new Set<string>();
  for (;;) {
    for (const step of operation['steps'] as Step[]) {
      const line = `${step.name} ${step.status}`;
      if (shown.has(line)) continue;
      shown.add(line);
      const error = step.lastError === null ? '' : ` (${step.lastError.message})`;
      demo.report.info(`    ${step.name.padEnd(10)} ${step.status}${took(step)}${error}`);
    }
    if (operation['status'] !== 'running') break;
    await wait(50, undefined, { signal: demo.signal });
    operation = await call(demo, `/v1/operations/${String(operation['id'])}`);
  }
  demo.report.info(`    ${body.slug}: ${String(operation['status'])}`);
}

/** The ledger of each demo tenant, line by line, each checked in its store. */
async function showStores({ env, report }: Demo): Promise<void> {
  const catalogue = openCatalogue({
    url: env['TENANTRY_CATALOGUE_URL'] ?? '',
    name: 'tenantry-start',
    max: 2,
  });
  try {
    const [cell] = await catalogue.cells.all();
    if (cell === undefined) return;
    const connections = connectCell(cell, {
      resolveSecret: (reference) => resolveSecret(reference, env),
      poolSize: 2,
    });
    try {
      for (const { slug } of DEMO) {
        const [tenant] = (await catalogue.tenants.list({ slug }, 1)).items;
        if (tenant === undefined) continue;
        const id = tenantId(tenant.id);
        const [ledger, found] = await Promise.all([
          catalogue.tenants.allocations(id),
          surveyTenant(connections, id),
        ]);
        report.info(`${slug} (${tenant.state}), by the ledger:`);
        for (const { store, kind, name, state } of ledger) {
          const there = found.some((f) => f.store === store && f.kind === kind && f.name === name);
          report.info(
            `    ${store.padEnd(9)} ${kind.padEnd(11)} ${name}  ${state}, ${there ? 'seen in the store' : 'NOT in the store'}`,
          );
        }
        for (const line of disagreements(ledger, found)) report.info(`    DISAGREEMENT: ${line}`);
      }
    } finally {
      await connections.close();
    }
  } finally {
    await catalogue.close();
  }
}

interface Step {
  readonly name: string;
  readonly status: string;
  readonly startedAt: string;
  readonly finishedAt: string | null;
  readonly lastError: { readonly message: string } | null;
}

const took = ({ startedAt, finishedAt }: Step): string =>
  finishedAt === null ? '' : ` in ${Date.parse(finishedAt) - Date.parse(startedAt)} ms`;

async function call(
  { apiUrl, token, signal }: Demo,
  path: string,
  post?: { body: unknown; key: string },
): Promise<Record<string, unknown>> {
  const response = await fetch(`${apiUrl}${path}`, {
    signal,
    headers: {
      authorization: `Bearer ${token}`,
      ...(post ? { 'content-type': 'application/json', 'idempotency-key': post.key } : {}),
    },
    ...(post ? { method: 'POST', body: JSON.stringify(post.body) } : {}),
  });
  const answer = (await response.json()) as Record<string, unknown>;
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${JSON.stringify(answer)}`);
  return answer;
}
