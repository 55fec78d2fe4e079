export const noopActivities = { nothing: (what: string): Promise<string> => Promise.resolve(what) };
export type NoopActivities = typeof noopActivities;
