/** Searches texts for what must not be in them. */

/** Payloads are bytes in Temporal's own types: as text too, so that what they say is searched. */
export function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (inner instanceof Uint8Array) return Buffer.from(inner).toString('utf8');
    if (isBufferJson(inner)) return Buffer.from(inner.data).toString('utf8');
    return typeof inner === 'bigint' ? String(inner) : inner;
  });
}

const isBufferJson = (value: unknown): value is { data: number[] } =>
  typeof value === 'object' &&
  value !== null &&
  'type' in value &&
  value.type === 'Buffer' &&
  'data' in value;

/** None of the secrets is there as it is, nor in base64. */
export function expectHarmless(text: string, secrets: readonly string[]): void {
  for (const secret of secrets) {
    const encoded = Buffer.from(secret).toString('base64').replace(/=+$/, '').slice(0, -1);
    for (const form of [secret, encoded]) {
      const at = text.indexOf(form);
      if (at >= 0) throw new Error(`a secret in: ${text.slice(Math.max(at - 200, 0), at)}[${form}]`);
    }
  }
}
