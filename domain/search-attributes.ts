/** Search attributes of runs: keywords, without personal data. As Temporal's clients and workflows take them for keys. */
const keyword = <N extends string>(name: N) => ({ name, type: 'KEYWORD' as const });

export const TENANT_ID = keyword('TenantId');
export const OPERATION_KIND = keyword('OperationKind');
export const CELL = keyword('Cell');
export const PLAN = keyword('Plan');

/** Their names, for whoever registers them. */
export const SEARCH_ATTRIBUTES = [TENANT_ID, OPERATION_KIND, CELL, PLAN].map(({ name }) => name);
