const PLAIN_NAME = /^[a-z][a-z0-9]*$/;
/** Words of Rego that may not follow a dot. */
const KEYWORDS: ReadonlySet<string> = new Set(
  'as contains default else every false if import in not null package some true with'.split(' '),
);

/** A name as `opa fmt` writes it behind a rule's name. */
export const referenceOf = (name: string): string =>
  PLAIN_NAME.test(name) && !KEYWORDS.has(name) ? `.${name}` : `["${name}"]`;

/**
 * The name of a connection's Rego file without its ending. `*_test.rego` are tests to OPA and in no bundle, so a last
 * `-test` keeps its dash.
 */
export const fileStemOf = (name: string): string => name.replaceAll('-', '_').replace(/_test$/, '-test');
