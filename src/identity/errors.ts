/** Codes of this folder; docs/errors.md explains each. */
export type IdentityErrorCode = 'ERR_IDENTITY_CONNECTION_STRING' | 'ERR_IDENTITY_SAS_TOKEN';
