// Why something failed, in words for people.

export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Node's ECONNREFUSED on a name with two addresses is an AggregateError with an empty message.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join('; ');
  return error.message;
}
