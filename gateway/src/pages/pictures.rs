//! The pictures of the store, drawn as SVG inside the page: no request, sharp on every screen.
//!
//! They are decoration: the name stands beside them, so screen readers skip them. A new picture is a file in
//! `pictures/` and a line in [`of`].

use maud::{Markup, PreEscaped};

/// The picture that the catalogue names, or a parcel when it names none that we have.
pub(super) fn of(name: &str) -> Markup {
    PreEscaped(
        match name {
            "mug" => include_str!("pictures/mug.svg"),
            "t-shirt" | "tshirt" => include_str!("pictures/t-shirt.svg"),
            "notebook" => include_str!("pictures/notebook.svg"),
            "poster" => include_str!("pictures/poster.svg"),
            "tote-bag" | "tote" => include_str!("pictures/tote-bag.svg"),
            "cap" => include_str!("pictures/cap.svg"),
            "socks" => include_str!("pictures/socks.svg"),
            "water-bottle" | "bottle" => include_str!("pictures/water-bottle.svg"),
            "sticker-sheet" | "stickers" => include_str!("pictures/sticker-sheet.svg"),
            _ => include_str!("pictures/parcel.svg"),
        }
        .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_picture_is_a_parcel() {
        assert_eq!(of("<script>").into_string(), of("").into_string());
        assert_ne!(of("mug").into_string(), of("").into_string());
    }
}
