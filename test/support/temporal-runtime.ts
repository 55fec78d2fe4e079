/**
 * Temporal's runtime of a test process, and what its workers say. Its package is one for all test files of a process, and
 * the runtime ends with its last worker and connection.
 */
import { inspect } from 'node:util';
import { IllegalStateError } from '@temporalio/common';
import { DefaultLogger, type LogEntry, NativeConnection, Runtime } from '@temporalio/worker';
import { keepWorkflowThreads } from './workflow-threads.js';

const ENTRIES = Symbol.for('tenantry.test.said-by-workers');
const entries = ((globalThis as { [ENTRIES]?: LogEntry[] })[ENTRIES] ??= []);
entries.length = 0;

/** Everything that workers of this file have said, whatever the level. */
export const saidByWorkers = (): string[] => entries.map(lineOf);

// Not before somebody asks: most of it nobody reads.
const lineOf = ({ level, message, meta }: LogEntry): string =>
  `[${level}] ${message} ${inspect(meta, { depth: 8 })}`;

/** A worker's connection. Whoever opens the first one makes the runtime. */
export async function connectWorkers(address: string): Promise<NativeConnection> {
  ensureRuntime();
  keepWorkflowThreads();
  return NativeConnection.connect({ address });
}

function ensureRuntime(): void {
  try {
    Runtime.install({
      // Or a signal would end the workers alone, and not the tests: they and what they started would stay.
      shutdownSignals: [],
      logger: new DefaultLogger('TRACE', (entry) => {
        const { level, message } = entry;
        entries.push(entry);
        // What is below a warning is noise in a test's output, and that something failed is what many tests are about.
        if (/WARN|ERROR/.test(level) && !/^(Workflow|Activity) (failed|completed as cancelled)/.test(message))
          process.stderr.write(`${lineOf(entry)}\n`);
      }),
      // The core warns of each activity that was given up and completes all the same.
      telemetryOptions: { logging: { filter: 'ERROR', forward: {} } },
    });
  } catch (error) {
    if (!(error instanceof IllegalStateError)) throw error;
  }
}
