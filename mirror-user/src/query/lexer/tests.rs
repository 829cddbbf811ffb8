use super::*;

fn words(query: &str) -> Vec<Token<'_>> {
    let lexer = Lexer::new(query);
    let mut words = Vec::new();
    let mut offset = 0;
    loop {
        let (token, span) = lexer.token(offset).unwrap();
        if token == Token::End {
            return words;
        }
        words.push(token);
        offset = span.end;
    }
}

#[test]
fn words_are_told_apart() {
    assert_eq!(
        words("a.b<=1.5 5min `x-y` 'q' # c | d\n@m"),
        [
            Token::Name("a.b"),
            Token::Symbol("<="),
            Token::Number("1.5"),
            Token::Period("5min"),
            Token::Quoted("x-y"),
            Token::Text("q".to_owned()),
            Token::Name("@m"),
        ]
    );
    assert_eq!(words("1.x"), [Token::Period("1.x")]);
    assert_eq!(words("é;"), [Token::Name("é"), Token::Other(';')]);
}

#[test]
fn strings_have_escapes() {
    assert_eq!(
        words(r#""a|\"b\\" '\d\n'"#),
        [Token::Text("a|\"b\\".to_owned()), Token::Text("\\d\n".to_owned())]
    );
}

#[test]
fn a_regular_expression_ends_at_a_slash_that_is_not_escaped() {
    assert_eq!(Lexer::new(r"/a\/b|\d/ x").regex(0).unwrap(), (r"a/b|\d".to_owned(), 9));
}

#[test]
fn what_has_no_end_is_named_at_its_beginning() {
    for (query, delimiter) in [("x 'a", '\''), ("x \"a\\", '"'), ("x `a", '`')] {
        let error = Lexer::new(query).token(1).unwrap_err();
        assert!(
            matches!(error.kind(), ParseErrorKind::Unclosed { delimiter: found, .. } if *found == delimiter)
        );
        assert_eq!(error.span(), 2..3);
    }
    assert!(Lexer::new("/a\\/").regex(0).is_err());
}
