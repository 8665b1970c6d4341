// Whether this browser may ask the server anything.
class Access {
  /** Set by the first 401; the page then gives way to the sign-in page, at the
   * same address, and comes back when it is cleared. */
  signedOut = $state(false)
}

export const access = new Access()
