/** Passwords of a tenant's users in the stores, as the catalogue keeps them: sealed, by store and version. */
export interface SealedCredential {
  readonly store: 'mongo' | 'redis';
  readonly version: number;
  readonly sealed: Buffer;
}

/** As a statement gives them inside of JSON, which has no bytes: `sealed` is base64. */
export interface CredentialJson extends Omit<SealedCredential, 'sealed'> {
  readonly sealed: string;
}

export const credentialsOf = (rows: readonly CredentialJson[] | null): SealedCredential[] =>
  (rows ?? []).map((row) => ({ ...row, sealed: Buffer.from(row.sealed, 'base64') }));
