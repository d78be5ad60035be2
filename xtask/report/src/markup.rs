//! Text inside of HTML and SVG.

/// Escapes text for use in a drawing or on a page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
