/** Search attributes must be known to the namespace before a run may carry one. */
import type { Connection } from '@temporalio/client';
import { temporal } from '@temporalio/proto';
import { SEARCH_ATTRIBUTES } from '../domain/search-attributes.js';

const ALREADY_EXISTS = 6;

/** Registers those that are missing; safe to repeat and from several workers at once. */
export async function ensureSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const { operatorService } = connection;
  const known = await operatorService.listSearchAttributes({ namespace });
  const missing = SEARCH_ATTRIBUTES.filter((name) => !(name in known.customAttributes));
  if (missing.length === 0) return;
  const { INDEXED_VALUE_TYPE_KEYWORD } = temporal.api.enums.v1.IndexedValueType;
  await operatorService
    .addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(missing.map((name) => [name, INDEXED_VALUE_TYPE_KEYWORD])),
    })
    .catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === ALREADY_EXISTS) return;
      throw error;
    });
}
