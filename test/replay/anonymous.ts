/** Histories without the machine that they were recorded on. */
import { hostname, userInfo } from 'node:os';

/** Who did something, and where in which file: of no use to a replay. */
const REPLACED: Readonly<Record<string, string>> = {
  identity: 'recorded',
  stackTrace: '',
  binaryChecksum: '',
  buildId: 'recorded',
  workerInstanceKey: '',
};

export function anonymous(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(anonymous);
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).map(([key, value]) => {
      const replaced = REPLACED[key];
      if (replaced !== undefined && typeof value === 'string') return [key, replaced];
      // The queue of one worker process is named after that process.
      if (key === 'taskQueue' && isSticky(value)) return [key, { ...value, name: 'sticky' }];
      return [key, anonymous(value)];
    }),
  );
}

const isSticky = (value: unknown): value is { name: string; kind: string } =>
  typeof value === 'object' &&
  value !== null &&
  'kind' in value &&
  value.kind === 'TASK_QUEUE_KIND_STICKY' &&
  'name' in value;

/** Every payload of a history as JSON, decoded: what it carries in plain text. */
export function withPayloadsDecoded(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(withPayloadsDecoded);
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).map(([key, value]) => [
      key,
      (key === 'data' || key === 'encoding') && typeof value === 'string'
        ? Buffer.from(value, 'base64').toString('utf8')
        : withPayloadsDecoded(value),
    ]),
  );
}

/** Of any machine, and of this one. */
export const TRACES_OF_A_MACHINE: readonly RegExp[] = [
  /(?:^|[^\w.])\/(?:home|root|Users|tmp|work|var|opt|usr|mnt)\//,
  /[A-Za-z]:\\\\/,
  /node_modules|webpack-internal|\.(?:ts|js):\d+/,
  /\d+@[\w.-]+/,
  /127\.0\.0\.1|localhost|:\/\//,
  /password|secret|SCRAM|Bearer/i,
  new RegExp(`\\b${escaped(hostname())}\\b`),
  new RegExp(`\\b${escaped(process.cwd())}\\b`),
  // `root` is a word of many meanings; any other user's name is a trace.
  ...(userInfo().username === 'root' ? [] : [new RegExp(`\\b${escaped(userInfo().username)}\\b`)]),
];

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
