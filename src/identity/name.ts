/** Longest name of a connection (product.md). */
export const MAX_CONNECTION_NAME_LENGTH = 63;
/** Longest name of an auth-rule; Azure allows 256. */
export const MAX_AUTH_RULE_NAME_LENGTH = 128;

const CONNECTION_NAME = /^[a-z0-9-]{1,63}$/;
const AUTH_RULE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** True for `[a-z0-9-]{1,63}`. */
export const isConnectionName = (text: string): boolean => CONNECTION_NAME.test(text);

/** True for 1 to 128 letters, digits, `.`, `_`, `-`, beginning with a letter or digit. */
export const isAuthRuleName = (text: string): boolean => AUTH_RULE_NAME.test(text);
