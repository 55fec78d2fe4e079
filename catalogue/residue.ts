/** SQL: the residue of an operation, of the allocations `a` that its undo should have removed. */
export const RESIDUE = `coalesce(jsonb_agg(jsonb_build_object('store', a.store, 'kind', a.kind, 'name', a.name,
    'reason', 'the undo could not remove it')), '[]')`;
