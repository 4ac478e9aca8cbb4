/** What an auth-rule allows; Manage implies the other two. */
export const CLAIMS = ['Listen', 'Send', 'Manage'] as const;

export type Claim = (typeof CLAIMS)[number];

/** True for the exact name of a claim. */
export const isClaim = (text: string): text is Claim => (CLAIMS as readonly string[]).includes(text);

/** The claims with what they imply, in the fixed order Listen, Send, Manage, each once. */
export const expandClaims = (claims: readonly Claim[]): readonly Claim[] =>
  claims.includes('Manage') ? CLAIMS : CLAIMS.filter((claim) => claims.includes(claim));
