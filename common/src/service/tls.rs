//! The one TLS provider.

/// Make ring the process's TLS provider, once; must come before the first HTTP client is built. Calling it again is
/// harmless. Tests that build clients call it too.
pub fn install_tls_provider() {
    // An error means that a provider is already in place, and there is only one in this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
